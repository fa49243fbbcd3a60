-- How a sleeping dispatcher is woken without the platform paying for it under load.
--
-- NOTIFY makes commits queue behind one lock of the whole cluster, so it must not accompany every call. A dispatcher
-- that is about to sleep writes here until when somebody sleeps; the trigger on the outbox rings only before that
-- time. A dispatcher with work to do never sleeps, so under load nobody rings.
--
-- A sequence, and not a row, because its value is shared at once, outside transactions: neither reading nor writing it
-- ever waits for a transaction, and it leaves no dead rows behind a snapshot that is held.
CREATE SEQUENCE postcall.bell MINVALUE 0 START 0;
COMMENT ON SEQUENCE postcall.bell IS 'Somebody sleeps until this time (milliseconds since 1970): ring for a new call';

GRANT SELECT, UPDATE ON SEQUENCE postcall.bell TO postcall_dispatcher;
