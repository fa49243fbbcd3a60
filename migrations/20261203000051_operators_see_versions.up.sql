-- In the console, an operator may read what an auditor may: also which versions of an action there are, who published each, when
-- and why. That takes whether a version is sealed, and the digest by which two of them are told apart; neither says anything of a
-- template.
SET LOCAL lock_timeout = '3s';
GRANT SELECT (key_id) ON postcall.action_version TO postcall_console_operator;
GRANT EXECUTE ON FUNCTION postcall.version_digest(bigint, integer) TO postcall_console_operator;
