DROP TABLE postcall.outbox;
