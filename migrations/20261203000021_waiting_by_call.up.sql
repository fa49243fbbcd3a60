-- Who looks for one call while a million wait finds it by index, as in history. A scan of the queue took a tenth of a second, and it grew
-- with what others have waiting, just when most is asked after calls.
--
-- B-trees, because a hash index walks through all equal values at each insert: one agent with the same provider's id in all of its calls
-- would slow down everybody's inserts. docs/figures.md has what the two cost an insert.
--
-- Inserts wait while the indexes are built: a second for a million that wait, and usually nothing waits.
SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.outbox IN SHARE ROW EXCLUSIVE MODE;
CREATE INDEX waiting_by_call ON postcall.waiting (call_id);
CREATE INDEX waiting_by_call_sid ON postcall.waiting (call_sid) WHERE call_sid IS NOT NULL;
