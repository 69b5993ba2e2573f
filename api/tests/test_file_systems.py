"""SQLite on a file system that cannot share memory, which its write-ahead log needs."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import run
from test_migration import start_api

from crud import StoreUnusable
from engines import engine_for


@pytest.fixture
def unshared(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder of a file system whose files cannot be mapped into shared memory."""
    if not (shutil.which("bindfs") and os.access("/dev/fuse", os.W_OK)):
        pytest.skip("needs bindfs (Debian: bindfs) and FUSE")
    folder, real = tmp_path / "unshared", tmp_path / "real"
    folder.mkdir()
    real.mkdir()
    mounted = subprocess.run(["bindfs", "-o", "direct_io", str(real), str(folder)])
    if mounted.returncode:
        pytest.skip("FUSE does not work here")
    yield folder
    subprocess.run(["fusermount", "-u", str(folder)], check=True)


def test_a_file_system_without_shared_memory_stops_the_start(unshared: Path) -> None:
    """One sentence says what helps; the exit code is 2."""
    code, printed = start_api(f"sqlite:///{unshared}/users.db")

    assert code == 2, printed
    sentence = "SQLite cannot share memory on its file system: use another folder"
    assert f"DATABASE_URL cannot be used: {sentence}\n" in printed
    assert "Traceback" not in printed


@pytest.mark.skipif(sys.platform == "win32", reason="a part of SQLite for Unix")
def test_sqlite_without_a_write_ahead_log_is_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network drives lock by files: there SQLite keeps its journal without an error."""
    path = sqlite_url.removeprefix("sqlite:///")
    connect = partial(sqlite3.connect, f"file:{path}?vfs=unix-dotfile", uri=True)
    monkeypatch.setattr(
        sqlite3, "connect", lambda _, timeout, **more: connect(timeout=timeout, **more)
    )

    with pytest.raises(StoreUnusable, match="cannot share memory"):
        engine_for(sqlite_url).connect()
    monkeypatch.undo()
    run(sqlite_url, lambda store: store.create(1, "Al", 30))
