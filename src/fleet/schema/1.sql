CREATE SCHEMA IF NOT EXISTS spec_notify;

-- Which programs may use it: from `oldest` up to `version`, which made it.
CREATE TABLE spec_notify.meta (
    version int NOT NULL,
    oldest int NOT NULL
);
INSERT INTO spec_notify.meta VALUES (1, 1);

-- Every event that was accepted: the shared inbox, and what is known of keys.
CREATE TABLE spec_notify.event (
    ns text NOT NULL,
    key bytea NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    spec text NOT NULL,
    event text NOT NULL,
    seen int NOT NULL DEFAULT 1,
    routed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (ns, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX event_unrouted ON spec_notify.event (ns, seq) WHERE NOT routed;
CREATE INDEX event_age ON spec_notify.event (at) WHERE routed;
