DROP TABLE postcall.action_switch;
DROP TABLE postcall.action_version;
DROP TABLE postcall.action;
DROP FUNCTION postcall.record_switch();
DROP FUNCTION postcall.refuse_change();
