ALTER TABLE postcall.dispatcher DROP COLUMN policy;
