-- UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 12 bits of the millisecond's fraction
-- (section 6.2, method 3), then 62 random bits. PostgreSQL 18 has uuidv7(); this serves 15 to 17 as well.
CREATE FUNCTION postcall.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (lpad(to_hex(us / 1000), 12, '0')
            || '7' || lpad(to_hex((us % 1000) * 4096 / 1000), 3, '0')
            || right(gen_random_uuid()::text, 17))::uuid
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) AS now_us;
END;
COMMENT ON FUNCTION postcall.uuid_v7() IS 'A new time-ordered UUID (version 7, RFC 9562)';

CREATE FUNCTION postcall.uuid_v7_floor(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
COMMENT ON FUNCTION postcall.uuid_v7_floor(timestamptz) IS
    'The least UUID of that millisecond: turns a time into a bound on time-ordered ids';
