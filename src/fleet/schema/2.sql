-- What became of each event; told again to whoever routes next.
ALTER TABLE spec_notify.event ADD COLUMN told text;
-- Why it went to nobody; it is kept for a person to look at.
ALTER TABLE spec_notify.event ADD COLUMN refused text;

-- Who does what: `router`, `sub:<subscription>`, and `member:<id>` for each process that delivers.
-- Whoever takes a lease over raises its epoch: writes of the holder before are refused by it.
CREATE TABLE spec_notify.lease (
    ns text NOT NULL,
    name text NOT NULL,
    holder text NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    until timestamptz NOT NULL,
    info text NOT NULL DEFAULT '',
    PRIMARY KEY (ns, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Payloads, each as long as a delivery sends it.
CREATE TABLE spec_notify.body (
    id uuid PRIMARY KEY,
    ns text NOT NULL,
    bytes bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- What is to be delivered, and dead letters. One that arrived has its evidence, and no row.
CREATE TABLE spec_notify.delivery (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    ns text NOT NULL,
    subscription text NOT NULL,
    spec text NOT NULL,
    body uuid NOT NULL,
    format text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    accepted_at timestamptz NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    history jsonb NOT NULL DEFAULT '[]',
    reason text,
    hint text,
    ended_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX delivery_waiting ON spec_notify.delivery (ns, subscription, seq) WHERE ended_at IS NULL;
CREATE INDEX delivery_dead ON spec_notify.delivery (ns, spec, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX delivery_body ON spec_notify.delivery (body);

-- Every attempt and every end, as the lines of deliveries.jsonl.
CREATE TABLE spec_notify.evidence (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ns text NOT NULL,
    spec text NOT NULL,
    delivery uuid NOT NULL,
    attempt int NOT NULL,
    is_end boolean NOT NULL,
    at timestamptz NOT NULL,
    line text NOT NULL,
    PRIMARY KEY (delivery, attempt, is_end, at)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX evidence_order ON spec_notify.evidence (ns, spec, tx, seq);

-- Each SPEC's run so far, and the sequence that its last event was given.
CREATE TABLE spec_notify.run (
    ns text NOT NULL,
    spec text NOT NULL,
    run text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (ns, spec)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- How each subscription's endpoint fares, and until when it asked to be left alone.
CREATE TABLE spec_notify.health (
    ns text NOT NULL,
    subscription text NOT NULL,
    health text NOT NULL,
    paused_until timestamptz,
    PRIMARY KEY (ns, subscription)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- The subscriptions that a person has paused.
CREATE TABLE spec_notify.pause (
    ns text NOT NULL,
    subscription text NOT NULL,
    pause text NOT NULL,
    PRIMARY KEY (ns, subscription)
);

-- Programs of version 1 hand over and look at nothing else.
UPDATE spec_notify.meta SET version = 2, oldest = 1;
