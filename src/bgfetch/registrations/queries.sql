-- The statements of registrations/sqlite.py, by name.

-- name: add
INSERT INTO registrations (scope, id, title, icons, options, record_count, download_total, upload_total,
                           created_at, checksum)
VALUES (:scope, :id, :title, :icons, :options, :record_count, :download_total, :upload_total, :created_at, 0)

-- name: set_checksum
UPDATE registrations SET checksum = :checksum WHERE uid = :uid

-- name: add_record
INSERT INTO records (uid, position, request, partial, checksum)
VALUES (:uid, :position, :request, :partial, :checksum)

-- name: add_body
INSERT INTO bodies (uid, position, body) VALUES (:uid, :position, :body)

-- name: active
SELECT uid, scope, id, title, icons, options, record_count, download_total, upload_total, created_at, checksum,
       downloaded, uploaded, result, failure_reason, failure_detail, settled_at, records_available, wish, epoch,
       owner, state, until
FROM registrations WHERE scope = :scope AND id = :id AND settled_at IS NULL

-- name: latest
SELECT uid, scope, id, title, icons, options, record_count, download_total, upload_total, created_at, checksum,
       downloaded, uploaded, result, failure_reason, failure_detail, settled_at, records_available, wish, epoch,
       owner, state, until
FROM registrations WHERE scope = :scope AND id = :id ORDER BY uid DESC LIMIT 1

-- name: get
SELECT uid, scope, id, title, icons, options, record_count, download_total, upload_total, created_at, checksum,
       downloaded, uploaded, result, failure_reason, failure_detail, settled_at, records_available, wish, epoch,
       owner, state, until
FROM registrations WHERE uid = :uid

-- name: listing
SELECT uid, scope, id, title, icons, options, record_count, download_total, upload_total, created_at, checksum,
       downloaded, uploaded, result, failure_reason, failure_detail, settled_at, records_available, wish, epoch,
       owner, state, until
FROM registrations
WHERE (:scope IS NULL OR scope = :scope) AND (:active IS NULL OR (settled_at IS NULL) = :active)
ORDER BY uid DESC LIMIT :limit

-- The same for active ones: found by their own index, however many have settled.
-- name: listing_active
SELECT uid, scope, id, title, icons, options, record_count, download_total, upload_total, created_at, checksum,
       downloaded, uploaded, result, failure_reason, failure_detail, settled_at, records_available, wish, epoch,
       owner, state, until
FROM registrations
WHERE uid IN (SELECT uid FROM registrations WHERE settled_at IS NULL AND (:scope IS NULL OR scope = :scope))
ORDER BY uid DESC LIMIT :limit

-- name: ids
SELECT id FROM registrations WHERE scope = :scope AND settled_at IS NULL ORDER BY uid

-- name: records
SELECT registrations.record_count, registrations.uid, records.position, records.request, records.partial,
       bodies.body, records.checksum, records.reply, records.total, records.downloaded, records.uploaded,
       records.spans, records.etag, records.last_modified, records.digest, records.verified, records.blob,
       records.result, records.failure_reason, records.failure_detail, records.restarts
FROM registrations
LEFT JOIN records ON records.uid = registrations.uid
LEFT JOIN bodies ON bodies.uid = records.uid AND bodies.position = records.position
WHERE registrations.uid = :uid ORDER BY records.position

-- name: blobs
SELECT DISTINCT records.blob FROM records JOIN registrations ON registrations.uid = records.uid
WHERE registrations.records_available AND records.blob <> ''

-- name: claim
UPDATE registrations SET epoch = epoch + 1, owner = :owner
WHERE uid = :uid AND settled_at IS NULL AND (:epoch IS NULL OR epoch = :epoch)

-- name: epoch
SELECT epoch FROM registrations WHERE uid = :uid

-- name: fence
SELECT epoch, settled_at IS NULL, wish FROM registrations WHERE uid = :uid

-- name: record_bytes
SELECT downloaded, uploaded FROM records WHERE uid = :uid AND position = :position AND result = ''

-- name: save_record
UPDATE records SET spans = :spans, downloaded = :downloaded, uploaded = :uploaded, total = :total, etag = :etag,
                   last_modified = :last_modified, reply = :reply, restarts = :restarts
WHERE uid = :uid AND position = :position

-- name: finish_record
UPDATE records SET result = :result, failure_reason = :failure_reason, failure_detail = :failure_detail,
                   downloaded = :downloaded, uploaded = :uploaded, total = :total, digest = :digest,
                   verified = :verified, blob = :blob, reply = :reply
WHERE uid = :uid AND position = :position

-- name: grow
UPDATE registrations SET downloaded = downloaded + :downloaded, uploaded = uploaded + :uploaded WHERE uid = :uid

-- name: save_state
UPDATE registrations SET state = :state, until = :until WHERE uid = :uid

-- name: settle
UPDATE registrations SET result = :result, failure_reason = :failure_reason, failure_detail = :failure_detail,
                         settled_at = :now, state = 'settled', until = NULL
WHERE uid = :uid

-- name: settlement
SELECT event_id FROM outbox WHERE uid = :uid AND type <> 'backgroundfetchclick'

-- name: announce
INSERT INTO outbox (uid, type, created_at) VALUES (:uid, :type, :now)

-- name: set_wish
UPDATE registrations SET wish = :wish
WHERE uid = :uid AND settled_at IS NULL AND (wish <> 'abort' OR :wish = 'abort')

-- name: amend
UPDATE registrations SET title = :title, icons = :icons, options = :options, checksum = :checksum WHERE uid = :uid

-- name: release_records
UPDATE registrations SET records_available = 0 WHERE uid = :uid

-- name: purge
DELETE FROM registrations WHERE uid = :uid

-- name: pending
SELECT outbox.event_id, outbox.uid, registrations.scope, registrations.id, outbox.type, outbox.created_at,
       outbox.attempts, outbox.not_before
FROM outbox JOIN registrations ON registrations.uid = outbox.uid
WHERE outbox.acknowledged_at IS NULL AND outbox.not_before <= :now
  AND (:scope IS NULL OR registrations.scope = :scope)
ORDER BY outbox.event_id

-- name: acknowledge
UPDATE outbox SET acknowledged_at = :now WHERE event_id = :event_id AND acknowledged_at IS NULL

-- name: postpone
UPDATE outbox SET attempts = attempts + 1, not_before = :not_before
WHERE event_id = :event_id AND acknowledged_at IS NULL AND (:attempts IS NULL OR attempts = :attempts)

-- name: log
INSERT INTO log (uid, at, name, detail)
SELECT uid, :now, :name, :detail FROM registrations WHERE uid = :uid

-- name: events
SELECT log.seq, log.uid, registrations.scope, registrations.id, log.at, log.name, log.detail
FROM log JOIN registrations ON registrations.uid = log.uid
WHERE log.seq > :after ORDER BY log.seq LIMIT :limit

-- name: events_of
SELECT log.seq, log.uid, registrations.scope, registrations.id, log.at, log.name, log.detail
FROM log JOIN registrations ON registrations.uid = log.uid
WHERE log.uid = :uid AND log.seq > :after ORDER BY log.seq LIMIT :limit

-- name: unfinished
SELECT uid FROM registrations
WHERE settled_at IS NULL AND (:paused OR wish <> 'pause')
ORDER BY CASE WHEN json_valid(options) THEN coalesce(json_extract(options, '$.priority'), 0) ELSE 0 END DESC, uid
LIMIT :limit

-- name: count_unfinished
SELECT count(*) FROM registrations WHERE settled_at IS NULL

-- name: last_line
SELECT coalesce(max(seq), 0) FROM log

-- name: uids
SELECT uid FROM registrations ORDER BY uid

-- Compared as bytes, and undecodable texts with them: Python would refuse to read those.
-- name: strange_events
SELECT event_id, uid FROM outbox
WHERE type NOT IN ('backgroundfetchsuccess', 'backgroundfetchfail', 'backgroundfetchabort', 'backgroundfetchclick')

-- name: retype
UPDATE OR IGNORE outbox SET type = :type WHERE event_id = :event_id

-- name: texts_of_log
SELECT seq, CAST(name AS BLOB), CAST(detail AS BLOB) FROM log ORDER BY seq

-- name: unlog
DELETE FROM log WHERE seq = :seq
