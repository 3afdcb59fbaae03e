-- Gives the outbox back to the relay. By the owner of the table:
--   psql --set ON_ERROR_STOP=1 --file disable.sql
-- From then on messages enter the outbox, and stay there until the relay has sent them. Leave the connector running until it
-- has published what is in the log; only then delete it, and drop what would keep the log from shrinking:
--   SELECT pg_drop_replication_slot('{{ .Values.connect.outbox.name }}');
--   DROP PUBLICATION {{ .Values.connect.outbox.name }};
--   DROP TABLE {{ .Values.connect.outbox.database.schema }}.{{ .Values.connect.outbox.name }}_log;

BEGIN;

DROP TRIGGER {{ .Values.connect.outbox.name }}_to_log ON {{ .Values.connect.outbox.database.schema }}.taskbridge_outbox;

DROP FUNCTION {{ .Values.connect.outbox.database.schema }}.{{ .Values.connect.outbox.name }}_to_log();

DROP FUNCTION IF EXISTS {{ .Values.connect.outbox.database.schema }}.{{ .Values.connect.outbox.name }}_home();

COMMIT;
