COMMENT ON COLUMN postcall.delivery.url IS 'The rendered URL, query values with secret names masked';
COMMENT ON COLUMN postcall.delivery_history.url IS 'The rendered URL; the values of query parameters with secret names are masked';
