CREATE OR REPLACE FUNCTION postcall.history_begins() RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(min(to_timestamp(('x' || translate(left(bound[1], 13), '-', ''))::bit(48)::bigint / 1000.0)),
                    '-infinity')
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid,
         regexp_match(pg_get_expr(relpartbound, pg_class.oid), $re$FROM \('([0-9a-f-]+)'\)$re$) AS bound
    WHERE inhparent = 'postcall.delivery'::regclass;
END;
COMMENT ON FUNCTION postcall.history_begins() IS 'The beginning of the oldest partition of postcall.delivery';
DROP TABLE postcall.retention;
