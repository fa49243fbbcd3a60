SET LOCAL lock_timeout = '3s';
DROP TRIGGER signing_is_known ON postcall.dispatcher;
DROP FUNCTION postcall.refuse_dispatcher_without_signing(), postcall.signing_keys_for_test(bigint);
ALTER TABLE postcall.dispatcher DROP COLUMN knows_signing;
DROP TABLE postcall.signing_key, postcall.signing_change;
DROP FUNCTION postcall.admit_signing_key(), postcall.record_signing_end();
