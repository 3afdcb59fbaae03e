-- Hands the outbox over to Debezium. By the owner of the table, who may replicate, before the connector starts. It may
-- be repeated, and must be where the slot was lost (after a restore, a failover, or by max_slot_wal_keep_size):
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

-- A slot whose part of the log is gone cannot be read any more, and is in the way of another.
SELECT pg_drop_replication_slot('{{ $name }}')
WHERE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{{ $name }}' AND wal_status = 'lost');

-- Fails where another database has a slot of this name: then give this one another (connect.outbox.name).
SELECT pg_create_logical_replication_slot('{{ $name }}', 'pgoutput')
WHERE NOT EXISTS (
  SELECT FROM pg_replication_slots WHERE slot_name = '{{ $name }}' AND database = current_database()
);

BEGIN;

-- Which log the server writes: its own number, and that of the timeline, which each recovery and promotion raises.
CREATE OR REPLACE FUNCTION {{ $schema }}.{{ $name }}_home() RETURNS text
  LANGUAGE sql STABLE AS $$
  SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()
$$;

-- With the rights of its owner: whoever may write to the outbox need not know of the other table.
CREATE OR REPLACE FUNCTION {{ $schema }}.{{ $name }}_to_log() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Without a slot that holds the log for Debezium nobody would read it there: a restore brings the trigger back and not
  -- the slot. One that is still being made does not hold what this transaction writes. And in another log than that of
  -- which this script was run (after a restore, on a server that took over) Connect looks for a position of the old one.
  IF TG_ARGV[0] IS DISTINCT FROM {{ $schema }}.{{ $name }}_home() OR NOT EXISTS (
    SELECT FROM pg_replication_slots
    WHERE slot_name = '{{ $name }}' AND database = current_database()
      AND confirmed_flush_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'
  ) THEN
    RETURN NEW;
  END IF;
  INSERT INTO {{ $schema }}.{{ $name }}_log VALUES (
    NEW.id, NEW.service, NEW.key, NEW.body, NEW.task_id, NEW.task, NEW.content_type, NEW.content_encoding,
    convert_from(NEW.headers, 'UTF8'), convert_from(NEW.properties, 'UTF8'), 'kafka', NEW.epoch, NEW.producer, NEW.seq
  );
  DELETE FROM {{ $schema }}.{{ $name }}_log WHERE id = NEW.id;
  RETURN NULL;
END
$$;

DO $$
BEGIN
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER {{ $name }}_to_log
      BEFORE INSERT ON {{ $schema }}.taskbridge_outbox
      FOR EACH ROW WHEN (NEW.road = %L AND NEW.attempts = 0)
      EXECUTE FUNCTION {{ $schema }}.{{ $name }}_to_log(%L)',
    'kafka', {{ $schema }}.{{ $name }}_home()
  );
END
$$;

COMMIT;
