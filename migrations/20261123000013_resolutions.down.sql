DROP TABLE postcall.resolution;
