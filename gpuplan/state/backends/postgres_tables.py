"""The tables of the PostgreSQL backend, and every statement it sends; `{schema}` is a quoted name.

A row of `state` is a workspace: its lock, its fence and its snapshot. Whoever writes anything holds that row, and has
seen there that the lock is still theirs.
"""

CREATE = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.state (
    workspace text PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    lock_id text,
    lock text,
    lineage text,
    serial bigint,
    snapshot text
);
CREATE TABLE IF NOT EXISTS {schema}.journal (
    workspace text NOT NULL,
    serial bigint NOT NULL,
    fence bigint NOT NULL,
    position bigint NOT NULL,
    entries text NOT NULL,
    PRIMARY KEY (workspace, serial, fence, position)
);
CREATE TABLE IF NOT EXISTS {schema}.earlier (
    workspace text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    serial bigint NOT NULL,
    snapshot text NOT NULL,
    PRIMARY KEY (workspace, number)
);
"""

ONE_CREATES = "SELECT pg_advisory_xact_lock(hashtext('gpuplan'), hashtext($1))"
"""Two sessions that create the same table at once end with an error; this one lives as long as its transaction."""

LOAD = """
SELECT snapshot, (
    SELECT array_agg(entries ORDER BY fence, position) FROM {schema}.journal j
    WHERE j.workspace = s.workspace AND j.serial = s.serial
) AS journal
FROM {schema}.state s WHERE workspace = $1
"""

HOLDER = "SELECT lock FROM {schema}.state WHERE workspace = $1"

ENTER = "INSERT INTO {schema}.state (workspace) VALUES ($1) ON CONFLICT DO NOTHING"

HOLD = "SELECT fence, lock_id, lock, lineage, serial FROM {schema}.state WHERE workspace = $1 FOR UPDATE"

SET_LOCK = "UPDATE {schema}.state SET fence = $2, lock_id = $3, lock = $4 WHERE workspace = $1"

SET_LEASE = "UPDATE {schema}.state SET lock = $4 WHERE workspace = $1 AND lock_id = $2 AND fence = $3"

RELEASE = "UPDATE {schema}.state SET lock_id = NULL, lock = NULL WHERE workspace = $1 AND lock_id = $2 AND fence = $3"

APPEND = """
WITH held AS (
    SELECT 1 FROM {schema}.state
    WHERE workspace = $1 AND lock_id = $2 AND fence = $3 AND lineage = $4 AND serial = $5 FOR SHARE
)
INSERT INTO {schema}.journal (workspace, serial, fence, position, entries)
SELECT $1, $5, $3, $6, $7 FROM held
ON CONFLICT (workspace, serial, fence, position) DO UPDATE SET entries = excluded.entries
WHERE journal.entries = excluded.entries
"""
"""One statement, so one transaction. A repeated one changes nothing: nobody else writes under this fence."""

REPLACE = """
WITH kept AS (
    INSERT INTO {schema}.earlier (workspace, serial, snapshot)
    SELECT workspace, serial, snapshot FROM {schema}.state WHERE workspace = $1 AND snapshot IS NOT NULL
    RETURNING 1
), pruned AS (
    DELETE FROM {schema}.earlier WHERE workspace = $1 AND number NOT IN (
        SELECT number FROM {schema}.earlier WHERE workspace = $1
        ORDER BY number DESC LIMIT $5 - (SELECT count(*) FROM kept)
    )
), cleared AS (
    DELETE FROM {schema}.journal WHERE workspace = $1
)
UPDATE {schema}.state SET lineage = $2, serial = $3, snapshot = $4 WHERE workspace = $1
"""
"""The snapshot becomes an earlier one, of which $5 stay; the journal goes."""

EARLIER = "SELECT serial FROM {schema}.earlier WHERE workspace = $1 ORDER BY number DESC"

WORKSPACES = "SELECT workspace FROM {schema}.state WHERE snapshot IS NOT NULL ORDER BY workspace"
