SET LOCAL lock_timeout = '3s';
REVOKE SELECT ON postcall.action_test, postcall.action_test_result, postcall.action_test_history FROM postcall_console_operator;
