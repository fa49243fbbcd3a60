-- What has come to an end lately (`postcall history --follow`): by the time of its end, wherever its id lies. A delivery that
-- waited for hours has an id of hours ago, so no index by id finds it.
--
-- Each recording writes one entry more, at the end of the index. While it is built, dispatchers can record nothing, for about a
-- second for a million deliveries: the results wait in the dispatchers meanwhile. Where that is too long, build it beforehand, in one
-- partition after the other: CREATE INDEX CONCURRENTLY ON postcall.<partition> (finished_at, delivery_id). What exists is used.
SET LOCAL lock_timeout = '3s';
CREATE INDEX delivery_by_end ON postcall.delivery (finished_at, delivery_id);
