DROP TABLE postcall.replay;
