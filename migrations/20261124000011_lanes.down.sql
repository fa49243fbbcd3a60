SET LOCAL lock_timeout = '3s';
LOCK TABLE postcall.outbox IN ACCESS EXCLUSIVE MODE;
DROP INDEX postcall.waiting_by_lane;
