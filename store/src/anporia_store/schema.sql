-- The log on SQLite. Each "-- migration N" block runs once, in order; PRAGMA user_version holds N.
-- Never edit a block that was released: add one.

-- migration 1: the log
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- One row an event. `raw` is Event.to_json(): fixed key order, so that the full id is
-- substr(raw, 8, 64) and the full agent id substr(raw, 86, 64); the integer keys only find candidates.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,  -- commit order, from 1, no reuse
    idkey      INTEGER NOT NULL,     -- from the id's first 8 bytes, so that descending idkey = ascending id
    author     INTEGER NOT NULL,     -- first 8 bytes of the agent id
    created_at INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    mark       INTEGER NOT NULL,     -- bits: 1 revoked, 2 hidden by flags, 4 in the lobby
    raw        BLOB    NOT NULL      -- last: a column behind a large blob costs a walk over all of its pages
);

CREATE INDEX events_id     ON events (idkey);
-- Newest first is created_at DESC, idkey DESC: each index below gives that order without a sort.
CREATE INDEX events_time   ON events (created_at, idkey, mark);
CREATE INDEX events_author ON events (author, created_at, idkey, kind, mark);
CREATE INDEX events_kind   ON events (kind, created_at, idkey, mark);

-- Tags that can be asked for. `tag` is a keyed 64-bit hash of name and value (the key is in meta, so
-- nobody can make values collide on purpose); the query compares the full value in raw as well.
CREATE TABLE tags (
    tag        INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    idkey      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    PRIMARY KEY (tag, created_at, idkey, seq)
) WITHOUT ROWID;

-- What kind 9 and kind 7 say of other events, kept even when the target is not here yet.
CREATE TABLE revocations (
    target TEXT    NOT NULL,
    agent  TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (target, agent, seq)
) WITHOUT ROWID;

CREATE TABLE flags (
    target TEXT    NOT NULL,
    agent  TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (target, agent, seq)
) WITHOUT ROWID;

-- migration 2: what the flaggers' trust hides; worked out by the relay, kept so that a list can leave it out
CREATE TABLE distrusted (
    target TEXT PRIMARY KEY
) WITHOUT ROWID;
