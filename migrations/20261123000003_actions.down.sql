DROP TABLE postcall.action_version;
DROP TABLE postcall.action;
DROP FUNCTION postcall.refuse_change();
