REVOKE INSERT (name, version, lease_until, policy) ON postcall.dispatcher FROM postcall_dispatcher;
GRANT INSERT ON postcall.dispatcher TO postcall_dispatcher;
ALTER TABLE postcall.dispatcher DROP COLUMN policy;
