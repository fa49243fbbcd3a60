SET LOCAL lock_timeout = '3s';

DROP FUNCTION postcall.expire_response_excerpts();
DROP TABLE postcall.response_excerpt;
