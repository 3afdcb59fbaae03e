-- Hands the outbox over to Debezium. By the owner of the table, who may replicate, before the connector starts; it may be
-- repeated:
--   psql --set ON_ERROR_STOP=1 --file enable.sql
-- From then on messages that may only go to Kafka do not enter the outbox, where the relay would find them: they pass
-- through a table that is always empty, and Debezium publishes them from the log of the database. What is in the outbox
-- already, and all other messages, stay the relay's.
{{- $name := .Values.connect.outbox.name }}
{{- $schema := .Values.connect.outbox.database.schema }}

-- Its columns are the record's key, value and headers, as text where they are text.
CREATE TABLE IF NOT EXISTS {{ $schema }}.{{ $name }}_log (
  id bigint PRIMARY KEY,
  service text NOT NULL,
  key text NOT NULL,
  body bytea NOT NULL,
  task_id text NOT NULL,
  task text NOT NULL,
  content_type text NOT NULL,
  content_encoding text NOT NULL,
  celery_headers text NOT NULL,
  celery_properties text NOT NULL,
  route text NOT NULL,
  epoch text NOT NULL,
  producer text NOT NULL,
  seq text NOT NULL
);

-- Before the slot, because the log can only be read with a publication that was there when it was written.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = '{{ $name }}') THEN
    CREATE PUBLICATION {{ $name }} FOR TABLE {{ $schema }}.{{ $name }}_log WITH (publish = 'insert');
  END IF;
END
$$;

-- Before the trigger, so that nothing is kept out of the outbox that the log does not hold for Debezium.
SELECT pg_create_logical_replication_slot('{{ $name }}', 'pgoutput')
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{{ $name }}');

BEGIN;

-- With the rights of its owner: whoever may write to the outbox need not know of the other table.
CREATE OR REPLACE FUNCTION {{ $schema }}.{{ $name }}_to_log() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO {{ $schema }}.{{ $name }}_log VALUES (
    NEW.id, NEW.service, NEW.key, NEW.body, NEW.task_id, NEW.task, NEW.content_type, NEW.content_encoding,
    convert_from(NEW.headers, 'UTF8'), convert_from(NEW.properties, 'UTF8'), 'kafka', NEW.epoch, NEW.producer, NEW.seq
  );
  DELETE FROM {{ $schema }}.{{ $name }}_log WHERE id = NEW.id;
  RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER {{ $name }}_to_log
  BEFORE INSERT ON {{ $schema }}.taskbridge_outbox
  FOR EACH ROW WHEN (NEW.road = 'kafka' AND NEW.attempts = 0)
  EXECUTE FUNCTION {{ $schema }}.{{ $name }}_to_log();

COMMIT;
