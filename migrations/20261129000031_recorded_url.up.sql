-- What history keeps of a URL is less than before: these comments say it. Rows that earlier releases wrote are not changed.
COMMENT ON COLUMN postcall.delivery.url IS
    'Of the URL: its origin, the plain words of its path and the names of its parameters; the rest is hidden (…)';
COMMENT ON COLUMN postcall.delivery_history.url IS
    'Of the URL: its origin, the plain words of its path and the names of its parameters; the rest is hidden (…)';
