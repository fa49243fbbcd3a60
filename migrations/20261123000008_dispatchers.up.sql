-- One row per dispatcher that ever ran. A dispatcher renews its lease by the database's clock; once the lease is over,
-- any other may declare it lost, and gives up what it had in flight. A lost dispatcher never comes back under its id.
CREATE TABLE postcall.dispatcher (
    dispatcher_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        NOT NULL CHECK (name <> ''),
    version       text        NOT NULL,
    claim_epoch   integer     NOT NULL DEFAULT 1,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until   timestamptz NOT NULL,
    stopped_at    timestamptz CHECK (stopped_at >= started_at),
    lost_at       timestamptz,
    CONSTRAINT a_dispatcher_ends_once CHECK (stopped_at IS NULL OR lost_at IS NULL)
) WITH (fillfactor = 50);
COMMENT ON TABLE postcall.dispatcher IS 'Dispatchers that run, and those that ran';
COMMENT ON COLUMN postcall.dispatcher.dispatcher_id IS 'Identity; a new one at every start, and after being lost';
COMMENT ON COLUMN postcall.dispatcher.name IS 'Host name and process id, for people';
COMMENT ON COLUMN postcall.dispatcher.version IS 'Version of the program';
COMMENT ON COLUMN postcall.dispatcher.claim_epoch IS
    'Raised when the answer to a claim was lost: claims of an earlier epoch that arrive late take nothing';
COMMENT ON COLUMN postcall.dispatcher.started_at IS 'When it started';
COMMENT ON COLUMN postcall.dispatcher.lease_until IS 'When it may be declared lost unless it is heard of before';
COMMENT ON COLUMN postcall.dispatcher.stopped_at IS 'When it stopped in good order';
COMMENT ON COLUMN postcall.dispatcher.lost_at IS 'When another dispatcher declared it lost';

GRANT SELECT, INSERT, UPDATE (claim_epoch, lease_until, stopped_at, lost_at) ON postcall.dispatcher
    TO postcall_dispatcher;
