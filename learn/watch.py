"""`lab.py learn`: shows a mission, checks the learner's file, and again after each save."""

import secrets
import textwrap
from pathlib import Path

from learn.keyboard import Keyboard
from learn.missions import Loaded, load_all
from learn.progress import Progress, Record, keep, last_used, learners_file, only_one
from learn.runner import check
from learn.verdict import Verdict
from tools.machine import ROOT
from tools.processes import Stopped, say, stop_requested

WIDTH = 86
COMMAND = "python3 lab.py learn"
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
    say(
        "Change it, and save it. Do not start it yourself: the check starts it, with its variables."
    )


def predict(loaded: Loaded, keyboard: Keyboard) -> bool:
    """Ask for the prediction, before the first run; return False when the learner quits."""
    record = Progress.read().get(loaded.number)
    if not keyboard.present or (record and (record.prediction or record.attempts)):
        return True
    say("")
    for part in textwrap.wrap(f"Before the first run, predict: {loaded.mission.prediction}", WIDTH):
        say(part)
    say("Type a number, and press Enter (Enter alone: no prediction):")
    while (answer := keyboard.answer()[:80]) not in ("", "check"):
        if answer in ("quit", "q"):
            return False
        if answer == "hint":
            hint(loaded)
        elif any(map(str.isdigit, answer)):
            with Progress.change(loaded) as record:
                record.prediction = answer
            break
        else:
            say(f"there is no number in {answer!r}. Type a number, or Enter for no prediction:")
    return True


def tell(loaded: Loaded, verdict: Verdict, record: Record) -> None:
    """Print a verdict; after PASS also how the real system does it, and what comes next."""
    for line in "\n".join(verdict.lines(record.prediction, record.measured)).splitlines():
        say(line)
    if verdict.verdict != "PASS":
        return
    for part in textwrap.wrap(f"Why: {loaded.mission.why}", WIDTH):
        say(part)
    say("How the real system does it:")
    for place in loaded.lines_of_the_real_system():
        say(f"  {place}")
    say(f"Mission {loaded.number} is passed. Our solution: {COMMAND} solution {loaded.number}")
    if following := next_mission(Progress.read()):
        say(f"Next: mission {following.number}, {following.title}: {COMMAND} {following.number}")


def next_mission(records: dict[int, Record]) -> Loaded | None:
    """Return the mission used last, or, if that is passed or given up, the next one that is not.

    Those with Docker come last.
    """
    last = last_used(records)
    done = {n for n, record in records.items() if record.passed or record.gave_up}
    left = [loaded for loaded in load_all() if loaded.number not in done]
    return min(
        left, key=lambda m: (m.mission.needs_docker, m.number < last, m.number), default=None
    )


def hint(loaded: Loaded) -> None:
    """Print the hints so far, and one more."""
    hints, number = loaded.mission.hints, loaded.number
    with Progress.change(loaded) as record:
        record.hints, all_seen = min(record.hints + 1, len(hints)), record.hints == len(hints)
    for count, text in enumerate(hints[: record.hints], 1):
        line = f"Mission {number}, hint {count} of {len(hints)}: {text}"
        for part in textwrap.wrap(line, WIDTH, break_on_hyphens=False):  # --memory is one word
            say(part)
    if all_seen:
        say(f"There are no more hints. To see the solution: {COMMAND} solution {number} --give-up")


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
        if not predict(loaded, keyboard):
            return 1
        while True:
            before = saved(file)
            say(f"checking {shown(file)} …")
            verdict = check(loaded, file, secrets.randbelow(1_000_000))
            tell(loaded, verdict, keep(loaded, verdict))
            if verdict.verdict == "PASS":
                say("This program ends here: you are in your shell again.")
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
            case str() as word:
                say(f"I do not know {word!r} here. {HELP}. Other commands: in another terminal")
    return True
