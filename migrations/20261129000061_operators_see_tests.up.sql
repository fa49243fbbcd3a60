-- Operators of the console read what an auditor reads; so they see tests of actions, too. They make none: that needs templates.
SET LOCAL lock_timeout = '3s';
GRANT SELECT ON postcall.action_test, postcall.action_test_result, postcall.action_test_history TO postcall_console_operator;
