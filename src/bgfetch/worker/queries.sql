-- The statements of worker/workers.py, worker/outbox.py, worker/mailbox.py and worker/retention.py, by name.

-- name: add_worker
INSERT INTO workers (scope, version, kind, target, python, path, directory, time_limit, mailbox, registered_at,
                     checksum, state)
VALUES (:scope, :version, :kind, :target, :python, :path, :directory, :time_limit, :mailbox, :registered_at,
        0, :state)

-- name: set_worker_checksum
UPDATE workers SET checksum = :checksum WHERE worker_id = :worker_id

-- name: workers
SELECT worker_id, scope, version, kind, target, python, path, directory, time_limit, mailbox, registered_at,
       checksum, state, detail
FROM workers
WHERE (:scope IS NULL OR scope = :scope) AND (:everything OR state <> 'redundant')
ORDER BY worker_id

-- name: worker
SELECT worker_id, scope, version, kind, target, python, path, directory, time_limit, mailbox, registered_at,
       checksum, state, detail
FROM workers WHERE worker_id = :worker_id

-- name: set_worker_state
UPDATE workers SET state = :state, detail = :detail WHERE worker_id = :worker_id

-- A worker that takes over; those that it replaces are redundant in the same moment.
-- name: replace_others
UPDATE workers SET state = 'redundant', detail = 'replaced by a newer version'
WHERE scope = :scope AND worker_id <> :worker_id AND state IN ('activating', 'active', 'installed')

-- name: begin_unregistering
UPDATE workers SET state = 'redundant', detail = 'unregistered' WHERE scope = :scope AND state <> 'redundant'

-- name: forget_workers
DELETE FROM workers WHERE scope = :scope

-- name: forget_redundant
DELETE FROM workers WHERE state = 'redundant' AND registered_at < :before

-- The next event of each scope. It waits for those of its registration that came before it, unless they are parked.
-- name: due
SELECT min(outbox.event_id), outbox.uid, registrations.scope, registrations.id, outbox.type, outbox.created_at,
       outbox.attempts, outbox.not_before
FROM outbox JOIN registrations ON registrations.uid = outbox.uid
WHERE outbox.acknowledged_at IS NULL AND outbox.not_before <= :now
  AND NOT EXISTS (SELECT 1 FROM outbox AS earlier
                  WHERE earlier.uid = outbox.uid AND earlier.event_id < outbox.event_id
                    AND earlier.acknowledged_at IS NULL AND earlier.not_before < 9e999)
GROUP BY registrations.scope ORDER BY 1

-- name: next_due
SELECT min(not_before) FROM outbox WHERE acknowledged_at IS NULL AND not_before > :now AND not_before < 9e999

-- name: begin
UPDATE outbox SET attempts = attempts + 1, not_before = :not_before
WHERE event_id = :event_id AND acknowledged_at IS NULL AND attempts = :attempts AND not_before <= :now

-- name: delivery
REPLACE INTO deliveries (event_id, worker_id, started_at) VALUES (:event_id, :worker_id, :now)

-- name: acknowledge_event
UPDATE outbox SET acknowledged_at = :now WHERE event_id = :event_id AND acknowledged_at IS NULL

-- name: release
UPDATE registrations SET records_available = 0 WHERE uid = :uid

-- name: retry_at
UPDATE outbox SET not_before = :not_before
WHERE event_id = :event_id AND acknowledged_at IS NULL AND attempts = :attempts

-- name: end_delivery
UPDATE deliveries SET ended_at = :now, exit_code = :exit_code, detail = :detail WHERE event_id = :event_id

-- A delivery that was broken off by us does not count.
-- name: give_back
UPDATE outbox SET attempts = attempts - 1, not_before = 0
WHERE event_id = :event_id AND acknowledged_at IS NULL AND attempts = :attempts

-- name: parked
SELECT outbox.event_id, outbox.uid, registrations.scope, registrations.id, outbox.type, outbox.created_at,
       outbox.attempts, outbox.not_before, deliveries.ended_at, deliveries.exit_code, deliveries.detail
FROM outbox JOIN registrations ON registrations.uid = outbox.uid
LEFT JOIN deliveries ON deliveries.event_id = outbox.event_id
WHERE outbox.acknowledged_at IS NULL AND outbox.not_before = 9e999
  AND (:scope IS NULL OR registrations.scope = :scope)
ORDER BY outbox.event_id

-- name: redeliver
UPDATE outbox SET attempts = 0, not_before = 0
WHERE event_id = :event_id AND acknowledged_at IS NULL AND not_before = 9e999

-- name: log_line
INSERT INTO log (uid, at, name, detail)
SELECT uid, :now, :name, :detail FROM registrations WHERE uid = :uid

-- name: put_message
INSERT INTO messages (scope, data, created_at) VALUES (:scope, :data, :now)

-- The oldest make room: who has not been there for a thousand messages wants the latest.
-- name: crowd_out
DELETE FROM messages WHERE scope = :scope AND message_id NOT IN
    (SELECT message_id FROM messages WHERE scope = :scope ORDER BY message_id DESC LIMIT :most)

-- name: messages
SELECT message_id, data, created_at FROM messages WHERE scope = :scope ORDER BY message_id

-- name: drop_message
DELETE FROM messages WHERE message_id = :message_id

-- name: forget_messages
DELETE FROM messages WHERE scope = :scope

-- name: old_messages
DELETE FROM messages WHERE created_at < :before

-- name: release_old
UPDATE registrations SET records_available = 0 WHERE settled_at < :before AND records_available

-- What is owed is never forgotten, unless it is parked and nobody has looked for all that time.
-- name: purge_old
DELETE FROM registrations WHERE uid IN
    (SELECT uid FROM registrations WHERE settled_at < :before AND NOT EXISTS
        (SELECT 1 FROM outbox WHERE outbox.uid = registrations.uid AND acknowledged_at IS NULL AND not_before < 9e999)
     LIMIT :limit)

-- name: settled_events_of
UPDATE outbox SET acknowledged_at = :now
WHERE acknowledged_at IS NULL AND uid IN (SELECT uid FROM registrations WHERE scope = :scope)
