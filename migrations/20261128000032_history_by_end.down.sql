SET LOCAL lock_timeout = '3s';
DROP INDEX postcall.delivery_by_end;
