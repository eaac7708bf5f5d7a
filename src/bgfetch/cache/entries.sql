-- The statements of cache/entries.py, by name.

-- name: cache
SELECT cache_id FROM caches WHERE scope = :scope AND name = :name AND doomed = 0

-- name: exists
SELECT 1 FROM caches WHERE cache_id = :cache_id

-- name: add_cache
INSERT INTO caches (scope, name) VALUES (:scope, :name)

-- name: doom_cache
UPDATE caches SET doomed = 1 WHERE scope = :scope AND name = :name AND doomed = 0

-- name: drop_doomed
DELETE FROM caches WHERE doomed = 1

-- name: names
SELECT name FROM caches WHERE scope = :scope AND doomed = 0 ORDER BY cache_id

-- name: add
INSERT INTO entries (cache_id, bare_url, url, method, request, reply, blob, size, verified, digest, added_at,
                     checksum, last_used, pinned)
VALUES (:cache_id, :bare_url, :url, :method, :request, :reply, :blob, :size, :verified, :digest, :added_at,
        :checksum, :last_used, :pinned)

-- name: entries
SELECT entry_id, cache_id, url, method, request, reply, blob, size, verified, digest, added_at, checksum,
       last_used, pinned
FROM entries WHERE cache_id = :cache_id ORDER BY entry_id

-- name: candidates
SELECT entry_id, cache_id, url, method, request, reply, blob, size, verified, digest, added_at, checksum,
       last_used, pinned
FROM entries WHERE cache_id = :cache_id AND bare_url = :bare_url ORDER BY entry_id

-- name: by_url
SELECT entry_id, cache_id, url, method, request, reply, blob, size, verified, digest, added_at, checksum,
       last_used, pinned
FROM entries
WHERE url = :url AND method = 'GET'
  AND cache_id IN (SELECT cache_id FROM caches WHERE scope = :scope AND doomed = 0)
ORDER BY cache_id, entry_id LIMIT 1

-- name: placed
SELECT entries.entry_id, entries.cache_id, entries.url, entries.method, entries.request, entries.reply,
       entries.blob, entries.size, entries.verified, entries.digest, entries.added_at, entries.checksum,
       entries.last_used, entries.pinned, caches.scope, caches.name
FROM entries JOIN caches ON caches.cache_id = entries.cache_id
WHERE caches.doomed = 0 AND (:scope IS NULL OR caches.scope = :scope)
ORDER BY entries.cache_id, entries.entry_id

-- name: state
SELECT count(*), max(entries.entry_id) FROM entries JOIN caches ON caches.cache_id = entries.cache_id
WHERE caches.doomed = 0 AND caches.scope = :scope

-- name: remove
DELETE FROM entries WHERE entry_id = :entry_id

-- name: blobs
SELECT DISTINCT blob FROM entries

-- name: touch
UPDATE entries SET last_used = :now WHERE entry_id = :entry_id AND last_used < :now

-- name: pin
UPDATE entries SET pinned = :pinned WHERE entry_id = :entry_id

-- name: entry_ids
SELECT entry_id FROM entries ORDER BY entry_id

-- name: entry
SELECT entry_id, cache_id, url, method, request, reply, blob, size, verified, digest, added_at, checksum,
       last_used, pinned
FROM entries WHERE entry_id = :entry_id
