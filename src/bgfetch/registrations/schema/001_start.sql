-- Instants are seconds since the epoch, lengths bytes, lists and objects JSON ('' = none, the default).
-- A checksum is the CRC-32 of the columns said beside it, in registrations/rows.py.

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE registrations (
    uid INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    icons TEXT NOT NULL,
    options TEXT NOT NULL,
    record_count INTEGER NOT NULL,
    download_total INTEGER NOT NULL,
    upload_total INTEGER NOT NULL,
    created_at REAL NOT NULL,
    checksum INTEGER NOT NULL,              -- of all columns above
    downloaded INTEGER NOT NULL DEFAULT 0,
    uploaded INTEGER NOT NULL DEFAULT 0,
    result TEXT NOT NULL DEFAULT '',
    failure_reason TEXT NOT NULL DEFAULT '',
    failure_detail TEXT NOT NULL DEFAULT '',
    settled_at REAL,
    records_available INTEGER NOT NULL DEFAULT 1,
    wish TEXT NOT NULL DEFAULT 'run',
    epoch INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'queued',
    until REAL
);
CREATE UNIQUE INDEX registrations_active ON registrations (scope, id) WHERE settled_at IS NULL;
CREATE INDEX registrations_by_id ON registrations (scope, id, uid);

CREATE TABLE records (
    uid INTEGER NOT NULL REFERENCES registrations (uid) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    request TEXT NOT NULL,
    partial TEXT NOT NULL,
    checksum INTEGER NOT NULL,              -- of all columns above, and the body
    reply TEXT NOT NULL DEFAULT '',
    total INTEGER,
    downloaded INTEGER NOT NULL DEFAULT 0,
    uploaded INTEGER NOT NULL DEFAULT 0,
    spans BLOB NOT NULL DEFAULT x'',        -- carries its own checksum, which covers etag and last_modified too
    etag TEXT NOT NULL DEFAULT '',
    last_modified TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    verified TEXT NOT NULL DEFAULT '',
    blob TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '',
    failure_reason TEXT NOT NULL DEFAULT '',
    failure_detail TEXT NOT NULL DEFAULT '',
    restarts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (uid, position)
);

-- Apart from records, because each update of a row writes all of it again.
CREATE TABLE bodies (
    uid INTEGER NOT NULL REFERENCES registrations (uid) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (uid, position)
);

CREATE TABLE outbox (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL REFERENCES registrations (uid) ON DELETE CASCADE,
    type TEXT NOT NULL,
    created_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    acknowledged_at REAL
);
CREATE UNIQUE INDEX outbox_settlement ON outbox (uid) WHERE type <> 'backgroundfetchclick';
CREATE INDEX outbox_by_registration ON outbox (uid);
CREATE INDEX outbox_pending ON outbox (event_id) WHERE acknowledged_at IS NULL;

CREATE TABLE log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL REFERENCES registrations (uid) ON DELETE CASCADE,
    at REAL NOT NULL,
    name TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX log_by_registration ON log (uid, seq);

CREATE TABLE caches (
    cache_id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    name BLOB NOT NULL,                     -- UTF-8, lone surrogates as such: any DOMString is a name
    doomed INTEGER NOT NULL DEFAULT 0       -- deleted while somebody may still hold it
);
CREATE UNIQUE INDEX caches_open ON caches (scope, name) WHERE doomed = 0;

CREATE TABLE entries (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    cache_id INTEGER NOT NULL REFERENCES caches (cache_id) ON DELETE CASCADE,
    bare_url TEXT NOT NULL,                 -- without query and fragment
    url TEXT NOT NULL,                      -- without fragment
    method TEXT NOT NULL,
    request TEXT NOT NULL,
    reply TEXT NOT NULL,
    blob TEXT NOT NULL,
    size INTEGER NOT NULL,
    verified TEXT NOT NULL,
    digest TEXT NOT NULL,
    added_at REAL NOT NULL,
    checksum INTEGER NOT NULL,              -- of cache_id and the columns from url to digest
    last_used REAL NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entries_by_cache ON entries (cache_id, bare_url);
CREATE INDEX entries_by_url ON entries (url);
