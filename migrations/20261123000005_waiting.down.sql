DROP TABLE postcall.waiting;
