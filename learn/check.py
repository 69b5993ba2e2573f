"""Runs one check in a process of its own: `python -m learn.check 5 FILE SEED [no-op]`.

It prints the verdict as one line of JSON. It ends, with all that it started, when its input ends:
so nothing is left if the program that started it is killed.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from learn.leftovers import adopt_orphans, kill_descendants
from learn.missions import Loaded, load
from learn.program import Program
from learn.verdict import BROKEN, Fail, Verdict, Void
from learn.world import World

LARGEST_FILE_BYTES = 1_000_000
SHOWN_LINES = 6
CLEANING_SECONDS = 20  # for a check that was stopped, to remove its containers


def refuse_unreadable(file: Path) -> None:
    """Raise Fail if Python cannot read the file as a program."""
    expected = "Python can read the file as a program"
    try:
        with file.open("rb") as opened:
            source = opened.read(LARGEST_FILE_BYTES + 1)
        if len(source) > LARGEST_FILE_BYTES:
            raise Fail(
                expected, f"the file is larger than {LARGEST_FILE_BYTES} bytes", look=file.name
            )
        compile(source, file.name, "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()[:200]
        place = f"{file.name}, line {error.lineno}" if error.lineno else file.name
        raise Fail(expected, f"{type(error).__name__}: {error.msg}", line, place) from None
    except OSError as error:
        look = f"{file} (`python3 lab.py learn reset N` makes the file of mission N again)"
        raise Fail(expected, f"the file cannot be read: {error.strerror}", look=look) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Fail(expected, f"Python cannot compile it: {error}", look=file.name) from None


async def run(loaded: Loaded, world: World) -> Verdict:
    """Run a check in its world; whatever happens is a verdict."""
    limit = loaded.mission.limit_seconds
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
    try:
        refuse_unreadable(world.file)
        async with asyncio.timeout(limit):
            await loaded.check(world)
        return Verdict("PASS")
    except Fail as fail:
        return Verdict(
            "FAIL", expected=fail.expected, seen=fail.seen, example=fail.example, look=fail.look
        )
    except Void as void:
        return Verdict("VOID", seen=str(void))
    except TimeoutError:
        running = [program for program in world.programs if program.file == world.file]
        return Verdict(
            "FAIL",
            expected=f"the check is done within {limit} s",
            seen="the program was still not done",
            example=running[-1].last_line() if running else "",
            look=f"{world.file.name}: a loop without an end, or a call without a timeout",
        )
    except (Exception, asyncio.CancelledError) as error:
        return Verdict("VOID", seen=f"{BROKEN}: {type(error).__name__}: {error}")


def name_line(verdict: Verdict, program: Program) -> None:
    """Add the line that has raised an exception to `look`; not if only a client went away."""
    raised = re.findall(rf'{re.escape(program.file.name)}", line (\d+)', program.output)
    gone = re.search(r"^(BrokenPipe|ConnectionReset|ConnectionAborted)Error", program.output, re.M)
    if verdict.look and raised and not gone and ", line " not in verdict.look:
        verdict.look += f" (an exception was raised in line {raised[-1]})"


def end_with_input(loop: Any, task: asyncio.Task[Verdict]) -> None:
    """Stop a check when the input of this process ends; end all that the check has started."""

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(task.cancel)
        time.sleep(CLEANING_SECONDS)  # `main` ends this process, if it can
        kill_descendants()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(number: str, file: str, seed: str, *words: str) -> None:
    """Run a check and print its verdict."""
    adopt_orphans()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="learn-", ignore_cleanup_errors=True) as folder:
        world = World(Path(file), int(seed), Path(folder), "no-op" not in words)
        loop: Any = asyncio.new_event_loop()
        task = loop.create_task(run(load(int(number)), world))
        end_with_input(loop, task)
        verdict = loop.run_until_complete(task)
        for program in world.programs:
            if program.file == world.file and program.output.strip():
                verdict.output = "\n".join(program.last_lines(SHOWN_LINES))
                name_line(verdict, program)
        kill_descendants()
    verdict.seed, verdict.measured = int(seed), world.measured
    verdict.seconds = round(time.monotonic() - started, 2)
    print(json.dumps(verdict.as_json()), flush=True)
    os._exit(0)  # at once: threads may still wait for responses


if __name__ == "__main__":
    main(*sys.argv[1:])
