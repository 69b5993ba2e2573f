"""`lab.py learn`: shows a mission, checks the learner's file, and again after each save."""

import secrets
import textwrap
from pathlib import Path

from learn.keyboard import Keyboard
from learn.missions import Loaded, load_all
from learn.progress import Progress, Record, keep, learners_file, only_one
from learn.runner import check
from learn.verdict import Verdict
from tools.machine import ROOT
from tools.processes import Stopped, say, stop_requested

WIDTH = 86
HELP = "Save the file to check it. Or type: hint, check, quit"


def shown(path: Path) -> str:
    """Return a path from the top folder."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def list_missions(records: dict[int, Record], current: int) -> None:
    """Print one line for each mission."""
    for loaded in load_all():
        record = records.get(loaded.number)
        mark = "x" if record and record.passed else ">" if loaded.number == current else " "
        minutes = f"{loaded.mission.minutes} min"
        needs = ", needs Docker" if loaded.mission.needs_docker else ""
        say(f"[{mark}] {loaded.number:>2}  {loaded.title}  ({minutes}{needs})")


def introduce(loaded: Loaded, file: Path) -> None:
    """Print the mission's story and its file."""
    say("")
    say(f"Mission {loaded.number}: {loaded.title} ({loaded.mission.minutes} minutes)")
    for paragraph in loaded.text_for_terminal().split("\n\n"):
        say("")
        joined = paragraph if paragraph.startswith(("-", "    ")) else " ".join(paragraph.split())
        for line in joined.splitlines():
            for part in textwrap.wrap(line, WIDTH, subsequent_indent="  " * line.startswith("-")):
                say(part)
    say("")
    say(f"Your file: {shown(file)}")


def predict(loaded: Loaded, keyboard: Keyboard) -> None:
    """Ask for the prediction, once."""
    record = Progress.read().get(loaded.number)
    if not keyboard.present or (record and record.prediction):
        return
    say("")
    for part in textwrap.wrap(f"Before the first run, predict: {loaded.mission.prediction}", WIDTH):
        say(part)
    say("Type your prediction, and press Enter:")
    answer = keyboard.answer()[:80]
    with Progress.change(loaded) as record:
        record.prediction = answer or "(none)"


def tell(loaded: Loaded, verdict: Verdict, record: Record) -> None:
    """Print a verdict; after PASS also how the real system does it."""
    for line in "\n".join(verdict.lines(record.prediction, record.measured)).splitlines():
        say(line)
    if verdict.verdict == "PASS":
        say("How the real system does it:")
        for place in loaded.lines_of_the_real_system():
            say(f"  {place}")


def hint(loaded: Loaded) -> None:
    """Print the hints so far, and one more."""
    with Progress.change(loaded) as record:
        record.hints = min(record.hints + 1, len(loaded.mission.hints))
    for number, text in enumerate(loaded.mission.hints[: record.hints], 1):
        for part in textwrap.wrap(f"Hint {number} of {len(loaded.mission.hints)}: {text}", WIDTH):
            say(part)


def saved(file: Path) -> tuple[int, int]:
    """Return what changes when a file is saved; an editor may replace it, so it may be absent."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def work_on(loaded: Loaded) -> int:
    """Work on a mission until it is passed; 0 then, 1 if the learner ends before."""
    with only_one():
        file, keyboard = learners_file(loaded), Keyboard()
        with Progress.change(loaded):
            pass  # its time begins
        list_missions(Progress.read(), loaded.number)
        introduce(loaded, file)
        predict(loaded, keyboard)
        while True:
            before = saved(file)
            say(f"checking {shown(file)} …")
            verdict = check(loaded, file, secrets.randbelow(1_000_000))
            tell(loaded, verdict, keep(loaded, verdict))
            if verdict.verdict == "PASS":
                say("Next mission: python3 lab.py learn")
                return 0
            say(HELP if keyboard.present else "Save the file to check it again. Ctrl-C ends.")
            if not wait_for_change(loaded, file, before, keyboard):
                return 1


def wait_for_change(
    loaded: Loaded, file: Path, before: tuple[int, int], keyboard: Keyboard
) -> bool:
    """Return True when the file was saved or a check is wanted, False when the learner quits."""
    while saved(file) in (before, (0, 0)):
        if stop_requested.wait(0.2):
            raise Stopped
        match keyboard.typed():
            case "quit" | "q":
                return False
            case "check" | "":
                return True
            case "hint":
                hint(loaded)
            case str():
                say(HELP)
    return True
