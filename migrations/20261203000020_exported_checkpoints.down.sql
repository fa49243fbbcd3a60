SET LOCAL lock_timeout = '3s';
ALTER TABLE postcall.seal_turn DROP COLUMN exported_size;
