DROP VIEW postcall.delivery_history;
DROP FUNCTION postcall.call_sid(json);
