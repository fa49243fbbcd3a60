-- Who looks for one call while a million wait finds it by index, as in history. A scan of the queue took a tenth of a second, and it grew
-- with what others have waiting, just when most is asked after calls.
--
-- B-trees, because a hash index walks through all equal values at each insert: one agent with the same provider's id in all of its calls
-- would slow down everybody's inserts. The provider's id is cut to the 256 characters that a registration keeps: a B-tree refuses a value of more
-- than 2,704 bytes, and a row that somebody made longer must not be a reason for which its delivery cannot be put back into the queue.
-- docs/figures.md has what the two cost an insert.
--
-- The deliveries of an id stand in their order, so a page of them costs the least by this index, whatever the planner believes of the queue: its
-- statistics are from when it was empty, or from when it was full.
--
-- Inserts wait while the indexes are built: a second for a million that wait, and usually nothing waits.
SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.outbox IN SHARE ROW EXCLUSIVE MODE;
CREATE INDEX waiting_by_call ON postcall.waiting (call_id, delivery_id);
CREATE INDEX waiting_by_call_sid ON postcall.waiting (left(call_sid, 256), delivery_id) WHERE call_sid IS NOT NULL;
