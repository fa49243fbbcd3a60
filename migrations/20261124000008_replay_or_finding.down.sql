REVOKE INSERT (delivery_id, state, resolved_by, reason) ON postcall.resolution FROM postcall_publisher;
REVOKE INSERT (replay_of, replayed_by, reason) ON postcall.replay FROM postcall_publisher;
DROP TRIGGER admit_finding ON postcall.resolution;
DROP FUNCTION postcall.admit_finding();
DROP TRIGGER await_replay ON postcall.replay;
DROP FUNCTION postcall.await_replay();
DROP TRIGGER identify_replay ON postcall.replay;
DROP FUNCTION postcall.identify_replay();
DROP FUNCTION postcall.lock_deliveries(uuid[]);
