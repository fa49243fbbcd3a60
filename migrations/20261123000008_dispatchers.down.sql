DROP TABLE postcall.dispatcher;
