-- The users of deploy/compose.yaml, each with the one role that it needs. All have the password in PGPASSWORD; in production, each
-- has one of its own.
\getenv password PGPASSWORD
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L IN ROLE %I', name, :'password', role)
FROM (VALUES ('platform', 'postcall_platform'), ('dispatcher_1', 'postcall_dispatcher'),
             ('publisher', 'postcall_publisher'), ('auditor', 'postcall_auditor')) AS wanted (name, role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
