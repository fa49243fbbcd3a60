-- The partitions stay with their tables: dropping them here would drop what they hold.
DROP FUNCTION postcall.history_begins();
DROP FUNCTION postcall.make_partitions(timestamptz);
