SET LOCAL lock_timeout = '3s';
DROP INDEX postcall.seal_slice_by_key;
