SET LOCAL lock_timeout = '3s';
REVOKE SELECT (created_at) ON postcall.outbox_default, postcall.delivery_default FROM postcall_dispatcher;
