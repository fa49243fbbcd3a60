SET LOCAL lock_timeout = '3s';
DROP TRIGGER secrets_are_known ON postcall.action_version;
DROP FUNCTION postcall.refuse_early_secret(), postcall.secrets_for_test(bigint);
ALTER TABLE postcall.dispatcher DROP COLUMN knows_secrets;
DROP TABLE postcall.secret, postcall.secret_change, postcall.secret_opening;
DROP FUNCTION postcall.record_secret_change();
