-- One row per dispatcher process that ever ran.
CREATE TABLE postcall.dispatcher (
    dispatcher_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        NOT NULL CHECK (name <> ''),
    version       text        NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    stopped_at    timestamptz CHECK (stopped_at >= started_at)
);
COMMENT ON TABLE postcall.dispatcher IS 'Running processes and those that ran';
COMMENT ON COLUMN postcall.dispatcher.dispatcher_id IS 'Identity; a new one at every start';
COMMENT ON COLUMN postcall.dispatcher.name IS 'Host name and process id, for people';
COMMENT ON COLUMN postcall.dispatcher.version IS 'Version of the program';
COMMENT ON COLUMN postcall.dispatcher.started_at IS 'When it started';
COMMENT ON COLUMN postcall.dispatcher.stopped_at IS 'When it stopped in good order; null while it runs, or if it died';

GRANT SELECT, INSERT, UPDATE (stopped_at) ON postcall.dispatcher TO postcall_dispatcher;
