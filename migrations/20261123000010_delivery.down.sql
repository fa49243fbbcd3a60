DROP TABLE postcall.delivery;
