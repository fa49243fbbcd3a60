-- Dispatchers count the rows of the default partitions for metrics. That names the partitions themselves, so the rights on
-- their parents do not count. One column is enough for counting, and says nothing of a call.
SET LOCAL lock_timeout = '3s';
GRANT SELECT (created_at) ON postcall.outbox_default, postcall.delivery_default TO postcall_dispatcher;
