DROP SEQUENCE postcall.bell;
