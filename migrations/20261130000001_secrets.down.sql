SET LOCAL lock_timeout = '3s';
DROP TABLE postcall.secret, postcall.secret_change;
DROP FUNCTION postcall.record_secret_change();
