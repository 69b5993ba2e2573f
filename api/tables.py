"""The tables of the stores on disk, made where they are missing, and the version that they have."""

from contextlib import suppress
from typing import Any, Final

from crud import StoreUnavailable
from engines import Engine

VERSION: Final = 1

TABLES: Final = (
    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)",
    "CREATE TABLE users (user_id {id_type} PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL)",
    "CREATE TABLE age_counts"
    " (stripe INTEGER, age INTEGER, users BIGINT NOT NULL, PRIMARY KEY (stripe, age))",
    f"INSERT INTO schema_version VALUES ({VERSION})",
)


def create_tables(engine: Engine, db: Any) -> None:
    """Make the tables where they are missing: all of them, or none.

    Somebody else's table by one of their names is not taken for ours. Raises StoreUnavailable for
    another version's, and the engine's fault where they are missing and cannot be made.
    """
    version = _version(engine, db)
    if version is None:
        try:
            db.execute(engine.begin_write)
            for statement in TABLES:
                db.execute(statement.format(id_type=engine.id_type))
            db.execute("COMMIT")
        except engine.fault:  # we may not, or another process has done it
            with suppress(engine.fault):
                db.execute("ROLLBACK")
            if _version(engine, db) is None:
                raise
        version = _version(engine, db)
    if version != VERSION:
        raise StoreUnavailable(f"its schema has version {version}, not {VERSION}")


def _version(engine: Engine, db: Any) -> int | None:
    """Return the version of the tables that are there, or None where there are none."""
    try:
        row = db.execute("SELECT MAX(version) FROM schema_version").fetchone()
    except engine.no_table:
        return None
    version: int | None = row[0]
    return version
