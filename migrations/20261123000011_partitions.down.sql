-- The partitions stay with their tables: dropping them here would drop what they hold.
DROP FUNCTION postcall.make_partitions(timestamptz);
