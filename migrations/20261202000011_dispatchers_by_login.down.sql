SET LOCAL lock_timeout = '3s';
REVOKE UPDATE (call_sid) ON postcall.waiting FROM postcall_dispatcher;
REVOKE UPDATE (sid) ON postcall.sending FROM postcall_dispatcher;
GRANT UPDATE ON postcall.waiting, postcall.sending TO postcall_dispatcher;
DROP TRIGGER admit_evidence ON postcall.resolution;
DROP TRIGGER results_are_their_dispatchers ON postcall.delivery;
DROP TRIGGER leases_are_their_holders ON postcall.dispatcher;
DROP FUNCTION postcall.admit_evidence(), postcall.admit_results(), postcall.admit_lease();
ALTER TABLE postcall.dispatcher DROP COLUMN db_user;
