SET LOCAL lock_timeout = '3s';
DROP VIEW postcall.action_test_history;
DROP FUNCTION postcall.prune_tests(integer);
DROP TABLE postcall.action_test_result, postcall.action_test, postcall.tested_agent;
DROP FUNCTION postcall.admit_action_test(), postcall.refuse_foreign_test_result(), postcall.keep_test();
DROP TRIGGER tests_begin_no_earlier ON postcall.retention;
ALTER TABLE postcall.retention DROP COLUMN tests_begin;
