SET LOCAL lock_timeout = '3s';
REVOKE EXECUTE ON FUNCTION postcall.version_digest(bigint, integer) FROM postcall_console_operator;
REVOKE SELECT (key_id) ON postcall.action_version FROM postcall_console_operator;
