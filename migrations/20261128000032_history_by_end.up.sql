-- What has come to an end lately (`postcall history --follow`): by the time of its end, wherever its id lies. A delivery that
-- waited for hours has an id of hours ago, so no index by id finds it.
--
-- BRIN, because history is only inserted into: what ended in one minute lies on pages that lie together. A recording writes
-- next to nothing into it, where a B-tree would take one entry more of each delivery. autosummarize: without it, all that was
-- recorded since the last vacuum would be read at each look.
--
-- While it is built, dispatchers can record nothing: the results wait in the dispatchers meanwhile.
SET LOCAL lock_timeout = '3s';
CREATE INDEX delivery_by_end ON postcall.delivery USING brin (finished_at) WITH (pages_per_range = 32, autosummarize = on);
