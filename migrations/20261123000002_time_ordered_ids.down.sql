DROP FUNCTION postcall.uuid_v7_floor(timestamptz);
DROP FUNCTION postcall.uuid_v7();
