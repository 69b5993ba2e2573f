"""The command `lab.py learn`."""

import argparse
import contextlib
import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from learn.missions import Loaded, load, load_all
from learn.progress import Progress, keep, keep_old, last_used, learners_file
from learn.runner import api_python, check
from learn.verify import verify
from learn.watch import COMMAND, hint, next_mission, shown, tell, work_on
from tools.machine import LabError
from tools.processes import say

ACTIONS = """
learn N           start mission N; check your file again after each save
learn             the same for the mission that you used last, or the next one after PASS
learn hint        a hint; three for each mission
learn solution    print the solution, after you have passed (or with --give-up)
learn reset N     begin the mission's file again; your file is kept as .old, .old2, …
learn check       check once; exit code 0: PASS, 1: FAIL, 3: VOID (the check proves nothing)
learn report      print what you did, as JSON
learn verify      check the missions themselves
A number after hint, solution and check chooses the mission; without it, the one you used last.
"""


def add_learn(commands: Any) -> None:
    """Add `learn` to the commands of `lab.py`."""
    add = commands.add_parser(
        "learn",
        help="learn by missions that check themselves",
        description=ACTIONS,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add.add_argument("words", nargs="*", metavar="ACTION", help="see above")
    add.add_argument("--give-up", action="store_true", help="solution: before you have passed")
    add.add_argument("--file", type=Path, help="check: another file than yours in .lab/learn")
    add.add_argument("--seed", type=whole_number, help="check: the same run again")
    add.add_argument("--json", action="store_true", help="check: print the verdict as JSON")
    add.add_argument("--seeds", type=whole_number, default=2, help="verify: runs of each program")
    add.add_argument("--no-op-faults", action="store_true", help="verify: faults do not strike")


def whole_number(text: str) -> int:
    """Return a number from 0 to 999,999. Raises ArgumentTypeError."""
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    raise argparse.ArgumentTypeError(f"a number from 0 to 999999 is needed, not {text!r}")


def learn(**given: Any) -> int:
    """Run `lab.py learn ...` and return its exit code. Raises LabError, Stopped."""
    options = argparse.Namespace(**given)
    words = list(options.words)
    action = words.pop(0) if words and not words[0].isdigit() else "learn"
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    if len(numbers) < len(words) or (len(numbers) > 1 and action != "verify"):
        raise LabError(
            f"I do not understand `learn {' '.join(options.words)}`: see {COMMAND} --help"
        )
    if action == "verify":
        missions = list(map(load, numbers)) or [m for m in load_all() if not m.mission.needs_docker]
        return verify(missions, max(1, int(options.seeds)), not options.no_op_faults)
    if action == "report":
        print(json.dumps([asdict(each) for _, each in sorted(Progress.read().items())], indent=1))
        return 0
    loaded = load(numbers[0]) if numbers else None
    match action:
        case "learn":
            loaded = loaded or next_mission(Progress.read())
            if loaded:
                return work_on(loaded)
            say("All missions are done. Again: `python3 lab.py learn N`, after `learn reset N`")
        case "check":
            return check_once(loaded or current(), options)
        case "hint":
            hint(loaded or current())
        case "solution":
            solution(loaded or current(), options.give_up)
        case "reset":
            if not loaded:
                raise LabError("which mission? For example: python3 lab.py learn reset 5")
            reset(loaded)
        case _:
            raise LabError(f"there is no `learn {action}`: see python3 lab.py learn --help")
    return 0


def current() -> Loaded:
    """Return the mission that the learner has used last."""
    records = Progress.read()
    if not records:
        raise LabError("no mission is started: run `python3 lab.py learn`, or name a mission")
    return load(last_used(records))


def check_once(loaded: Loaded, options: argparse.Namespace) -> int:
    """Check a file once, print the verdict, and return its exit code. Raises LabError."""
    if options.file and not options.file.is_file():
        raise LabError(f"there is no file {options.file}")
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        api_python()  # the first time, it reports the installation
        file = options.file or learners_file(loaded)
        say(f"mission {loaded.number}: checking {shown(file)} …")
    seed = secrets.randbelow(1_000_000) if options.seed is None else int(options.seed)
    verdict = check(loaded, file, seed)
    record = None if options.file else keep(loaded, verdict)
    if options.json:
        about = {"mission": loaded.number, "name": loaded.folder.name, **verdict.as_json()}
        print(json.dumps(about, indent=1))
    elif record:
        tell(loaded, verdict, record)
    else:
        for line in verdict.lines():
            say(line)
        say("this is not your file in .lab/learn, so the check does not count")
    return verdict.exit_code


def solution(loaded: Loaded, give_up: bool) -> None:
    """Print the solution, if the learner has passed or gives up. Raises LabError otherwise."""
    record = Progress.read().get(loaded.number)
    command = f"python3 lab.py learn solution {loaded.number} --give-up"
    if not give_up and not (record and record.passed):
        raise LabError(f"mission {loaded.number} is not passed yet. To give up: {command}")
    if give_up:
        with Progress.change(loaded) as record:
            record.gave_up = not record.passed
    print(loaded.solution.read_text(encoding="utf-8"))
    for place in loaded.lines_of_the_real_system():
        print(place)


def reset(loaded: Loaded) -> None:
    """Put the starter back, and keep the learner's file beside it. What is passed stays passed."""
    file = learners_file(loaded)
    if file.read_bytes() == loaded.starter.read_bytes():
        say(f"mission {loaded.number}: {shown(file)} is the starter already")
        return
    old = keep_old(file)
    learners_file(loaded)
    say(f"mission {loaded.number}: {shown(file)} is the starter again; yours is now {shown(old)}")
