"""The tables of the stores on disk, made where they are missing, and the version that they have."""

from typing import Any, Final

from crud import StoreUnavailable
from engines import Engine

VERSION: Final = 1

TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS users"
    " (user_id {id_type} PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS age_counts"
    " (stripe INTEGER, age INTEGER, users BIGINT NOT NULL, PRIMARY KEY (stripe, age))",
    f"INSERT INTO schema_version VALUES ({VERSION}) ON CONFLICT DO NOTHING",
)


def create_tables(engine: Engine, db: Any) -> None:
    """Make the tables where they are missing.

    Raises StoreUnavailable for another version's, and the engine's fault where they are missing
    and cannot be made.
    """
    version = _version(engine, db)
    if version is None:
        fault = None
        for statement in TABLES:
            try:
                db.execute(statement.format(id_type=engine.id_type))
            except engine.fault as error:  # we may not, or another process does at this moment
                fault = fault or error
        version = _version(engine, db)
        if version is None and fault:
            raise fault
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
