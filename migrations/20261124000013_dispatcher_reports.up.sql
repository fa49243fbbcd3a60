-- What each dispatcher says about itself, every few seconds: for people who look at what is going on. Nothing is decided by it.
SET LOCAL lock_timeout = '3s';

-- Rewritten in place again and again: half of each page is left for the next version of a row.
CREATE TABLE postcall.dispatcher_report (
    dispatcher_id  integer     NOT NULL PRIMARY KEY REFERENCES postcall.dispatcher,
    reported_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    concurrency    integer     NOT NULL,
    in_flight      integer     NOT NULL,
    unrecorded     integer     NOT NULL,
    hosts          jsonb       NOT NULL,
    hosts_left_out integer     NOT NULL,
    CONSTRAINT report_numbers_are_not_negative CHECK (least(concurrency, in_flight, unrecorded, hosts_left_out) >= 0),
    CONSTRAINT reported_hosts_are_an_array CHECK (jsonb_typeof(hosts) = 'array' AND octet_length(hosts::text) <= 65536),
    CONSTRAINT report_times_are_in_range CHECK (reported_at >= '2000-01-01Z' AND reported_at < '10000-01-01Z')
) WITH (fillfactor = 50);
COMMENT ON TABLE postcall.dispatcher_report IS 'What each dispatcher last said about itself';
COMMENT ON COLUMN postcall.dispatcher_report.dispatcher_id IS 'The dispatcher';
COMMENT ON COLUMN postcall.dispatcher_report.reported_at IS 'When it said so';
COMMENT ON COLUMN postcall.dispatcher_report.concurrency IS 'Requests that it has in flight at most';
COMMENT ON COLUMN postcall.dispatcher_report.in_flight IS 'Requests that it had in flight';
COMMENT ON COLUMN postcall.dispatcher_report.unrecorded IS 'Results that it had in hand and not yet recorded';
COMMENT ON COLUMN postcall.dispatcher_report.hosts IS 'Hosts that it sends to: those that are not well first';
COMMENT ON COLUMN postcall.dispatcher_report.hosts_left_out IS 'How many more hosts it sends to than are listed';

SELECT postcall.guard_against_truncate('postcall.dispatcher_report');

-- DELETE: reports of dispatchers that are long gone are cleared away by those that start.
GRANT SELECT, INSERT, UPDATE, DELETE ON postcall.dispatcher_report TO postcall_dispatcher;
GRANT SELECT ON postcall.dispatcher_report TO postcall_publisher, postcall_auditor;
