SET LOCAL lock_timeout = '3s';
DROP TABLE postcall.dispatcher_report;
