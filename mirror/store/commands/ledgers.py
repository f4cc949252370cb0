"""Begun downloads, misses, and the instance's own id."""

import secrets
from sqlite3 import Connection

from mirror.store.protocols import Partial

MISSES_ROWS = 1_000


def begin_partial(db: Connection, partial: Partial) -> None:
    """`Partials.begin_partial`. A later one of the same digest and source takes the place of the earlier."""
    db.execute(
        "INSERT OR REPLACE INTO ingests (id, digest, registry, anonymous, started_at) VALUES (?, ?, ?, ?, ?)",
        (partial.id, partial.digest.to_bytes(), partial.registry, partial.anonymous, partial.started_at),
    )


def end_partial(db: Connection, ingest_id: str) -> None:
    """`Partials.end_partial`."""
    db.execute("DELETE FROM ingests WHERE id = ?", (ingest_id,))


def missed(db: Connection, name: str, at: float) -> None:
    """`Misses.missed`. Beyond the cap, the names longest not asked for go."""
    known = db.execute("UPDATE misses SET count = count + 1, last_at = max(last_at, ?) WHERE name = ?", (at, name))
    if known.rowcount:
        return
    db.execute("INSERT INTO misses (name, count, last_at) VALUES (?, 1, ?)", (name, at))
    db.execute(
        "DELETE FROM misses WHERE name IN (SELECT name FROM misses ORDER BY last_at DESC, name LIMIT -1 OFFSET ?)",
        (MISSES_ROWS,),
    )


def make_instance(db: Connection) -> None:
    """Give this catalog its own id, at its first start."""
    db.execute("INSERT INTO meta (key, value) VALUES ('instance', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(16),))
