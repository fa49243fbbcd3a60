DROP TABLE postcall.sending;
