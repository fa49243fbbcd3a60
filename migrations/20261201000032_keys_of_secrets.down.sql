SET LOCAL lock_timeout = '3s';
DROP TRIGGER keys_change_with_their_value ON postcall.secret;
DROP FUNCTION postcall.refuse_lone_key();
