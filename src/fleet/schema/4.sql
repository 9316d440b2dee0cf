
-- The stage that a delivery's event tells of, and how that ended, as listings show them.
ALTER TABLE spec_notify.delivery ADD COLUMN stage text, ADD COLUMN status text;

-- What programs of version 2 and 3 insert has neither.
UPDATE spec_notify.meta SET version = 4, oldest = 1;
