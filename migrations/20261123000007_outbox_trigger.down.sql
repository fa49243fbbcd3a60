DROP TRIGGER await_deliveries ON postcall.outbox;
DROP FUNCTION postcall.await_deliveries();
