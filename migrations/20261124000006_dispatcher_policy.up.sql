-- What may be called is a property of the installation: each dispatcher writes down by which policy it judges, so that one with
-- another policy does not start beside it and swallow what the others would have delivered.
ALTER TABLE postcall.dispatcher ADD COLUMN policy jsonb
    CONSTRAINT a_policy_is_an_object CHECK (jsonb_typeof(policy) = 'object' AND octet_length(policy::text) <= 100000);
COMMENT ON COLUMN postcall.dispatcher.policy IS
    'What it may call: one entry a setting; null for dispatchers of releases that did not say';

-- A dispatcher's number is not its own to choose: it could use up those of others.
REVOKE INSERT ON postcall.dispatcher FROM postcall_dispatcher;
GRANT INSERT (name, version, lease_until, policy) ON postcall.dispatcher TO postcall_dispatcher;
