"""The learner's files, and the progress, in `.lab/learn/`. One process at a time writes there."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from learn.missions import Loaded
from learn.verdict import Verdict
from tools.machine import ROOT, LabError
from tools.processes import say

FOLDER = ROOT / ".lab" / "learn"


@dataclass
class Record:
    """What happened in one mission."""

    mission: int
    name: str = ""
    passed: bool = False
    gave_up: bool = False
    attempts: int = 0
    hints: int = 0
    seconds: int = 0  # from the first look at the mission until it was passed
    prediction: str = ""
    measured: str = ""
    verdict: str = ""
    started_at: float = field(default_factory=time.time)
    used_at: float = 0.0  # when the learner has last done something with this mission


@contextlib.contextmanager
def writable() -> Iterator[None]:
    """Turn an error of the file system into a sentence. Raises LabError."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise LabError(f"cannot write to {FOLDER}: {error.strerror or error}") from None


def lock(file: IO[str]) -> bool:
    """Lock a file for this process, and return whether it was free. It is free when we end."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the right to watch the learner's file. Raises LabError if another process has it."""
    with writable():
        file = (FOLDER / "watch.lock").open("a", encoding="utf-8")
    with file:
        if not lock(file):
            raise LabError(
                "`lab.py learn` runs already in another terminal: use that one, or end it"
            )
        yield


class Progress:
    """The records of all missions, read from `progress.json`; `change` writes them."""

    @staticmethod
    def read() -> dict[int, Record]:
        """Return the records; an unreadable file is kept under another name."""
        path = FOLDER / "progress.json"
        known = {each.name for each in fields(Record)}
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            made = [Record(**{k: v for k, v in row.items() if k in known}) for row in rows]
            return {record.mission: record for record in made}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise LabError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError):
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".broken"))
            say(f"{path} was damaged: it is now progress.broken, and your progress begins again")
            return {}

    @staticmethod
    @contextlib.contextmanager
    def change(loaded: Loaded) -> Iterator[Record]:
        """Yield a mission's record, and write it afterwards. Raises LabError."""
        with writable(), (FOLDER / "progress.lock").open("a", encoding="utf-8") as file:
            deadline = time.monotonic() + 5
            while not lock(file) and time.monotonic() < deadline:
                time.sleep(0.02)
            records = Progress.read()
            record = records.setdefault(loaded.number, Record(loaded.number, loaded.folder.name))
            record.used_at = time.time()
            yield record
            rows: list[dict[str, Any]] = [asdict(records[number]) for number in sorted(records)]
            written = FOLDER / f"progress.{os.getpid()}.new"
            written.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            written.replace(FOLDER / "progress.json")


def last_used(records: dict[int, Record]) -> int:
    """Return the number of the mission that was used last, or 0."""
    return max(records, key=lambda number: records[number].used_at, default=0)


def learners_file(loaded: Loaded) -> Path:
    """Return the learner's file of a mission; a copy of the starter if there is none yet."""
    path = FOLDER / f"{loaded.folder.name}.py"
    with writable():
        if not path.exists():
            if loaded.number in Progress.read():
                say(f"{path.name} was not there: it is a copy of the starter now")
            shutil.copyfile(loaded.starter, path)
    return path


def keep_old(file: Path) -> Path:
    """Rename a learner's file: to .old, or .old2, … if there is one; return the new path."""
    number, old = 1, file.with_suffix(".old")
    while old.exists():
        number += 1
        old = file.with_suffix(f".old{number}")
    with writable():
        return file.replace(old)


def keep(loaded: Loaded, verdict: Verdict) -> Record:
    """Write a verdict into the progress, and return the record."""
    with Progress.change(loaded) as record:
        record.attempts += 1
        record.verdict = verdict.verdict
        record.measured = record.measured or verdict.measured
        if verdict.verdict == "PASS" and not record.passed:
            record.passed = True
            record.seconds = round(time.time() - record.started_at)
    return record
