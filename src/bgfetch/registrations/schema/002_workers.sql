-- Workers of scopes, what became of deliveries, and messages for clients that are not there.

CREATE TABLE workers (
    worker_id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,                     -- 'entry-point' or 'argv'
    target TEXT NOT NULL,                   -- JSON list: the entry point alone, or the command
    python TEXT NOT NULL,                   -- the interpreter of the app that registered it
    path TEXT NOT NULL,                     -- JSON list: where that looks for modules
    directory TEXT NOT NULL,                -- where it runs
    time_limit REAL NOT NULL,               -- seconds for one event
    mailbox INTEGER NOT NULL,
    registered_at REAL NOT NULL,
    checksum INTEGER NOT NULL,              -- of all columns above: it says what is run
    state TEXT NOT NULL,                    -- installing, installed, activating, active, redundant, unregistering
    detail TEXT NOT NULL DEFAULT ''         -- why it did not get further
);
CREATE INDEX workers_by_scope ON workers (scope);

-- The last delivery of an event. One whose outbox.not_before is Infinity is parked: a person must look at it.
CREATE TABLE deliveries (
    event_id INTEGER PRIMARY KEY REFERENCES outbox (event_id) ON DELETE CASCADE,
    worker_id INTEGER NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    exit_code INTEGER,                      -- below 0: ended by that signal; NULL: it did not end by itself
    detail TEXT NOT NULL DEFAULT ''
);

CREATE TABLE messages (
    message_id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    data TEXT NOT NULL,                     -- JSON
    created_at REAL NOT NULL
);
CREATE INDEX messages_by_scope ON messages (scope, message_id);
