SET LOCAL lock_timeout = '3s';
DROP INDEX postcall.waiting_by_call_sid;
DROP INDEX postcall.waiting_by_call;
