"""`lab.py learn verify`: the law of the missions, as a table.

The starter fails, the solution passes, each wrong solution fails with the sentence in its
docstring; and when no fault strikes, the verdict is VOID.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from learn.missions import Loaded, mistake
from learn.runner import api_python, check
from learn.verdict import BROKEN, Verdict
from tools.processes import say

AT_ONCE = min(4, os.cpu_count() or 1)  # most checks wait most of the time


@dataclass(frozen=True)
class Case:
    """A program of a mission, and the verdict that it must get; `…` in `seen` is any text."""

    loaded: Loaded
    path: Path
    verdict: str
    seen: str = ""

    @property
    def name(self) -> str:
        """Such as "5 wrong/no_retry"."""
        path = self.path.relative_to(self.loaded.folder).with_suffix("")
        return f"{self.loaded.number:>2} {path.as_posix()}"

    def problem(self, verdict: Verdict) -> str:
        """Return what is wrong with a verdict, or an empty text."""
        wanted = ".*".join(map(re.escape, self.seen.split("…")))
        found = re.search(wanted, verdict.seen, re.S) and BROKEN not in verdict.seen
        if verdict.verdict == self.verdict and found:
            return ""
        wish = f"{self.verdict} {self.seen!r}" if self.seen else self.verdict
        return f"seed {verdict.seed}: {verdict.verdict} {verdict.seen!r}, not {wish}"


def cases(loaded: Loaded, faults: bool) -> Iterator[Case]:
    """Yield the programs of a mission, with the verdicts that they must get."""
    yield Case(loaded, loaded.starter, "FAIL" if faults else "VOID")
    yield Case(loaded, loaded.solution, "PASS" if faults else "VOID")
    for path in loaded.wrong():
        yield Case(loaded, path, *(("FAIL", mistake(path)[1]) if faults else ("VOID",)))


def verify(missions: list[Loaded], seeds: int, faults: bool) -> int:
    """Print the table; 1 if a program gets another verdict than it should, else 0."""
    api_python()  # before the threads
    problems = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for loaded in missions:
            for case in cases(loaded, faults):
                runs = [
                    pool.submit(check, loaded, case.path, seed, faults) for seed in range(seeds)
                ]
                verdicts = [run.result() for run in runs]
                wrong = [text for text in map(case.problem, verdicts) if text]
                longest = max(verdict.seconds for verdict in verdicts)
                result = f"{case.verdict} {seeds - len(wrong)} of {seeds}, at most {longest:.1f} s"
                say(f"{case.name:<32} {result:<32} {verdicts[0].seen[:80]}")
                for text in wrong:
                    say(f"  {text}")
                problems += wrong
    say(f"{len(problems)} of the verdicts are wrong" if problems else "every verdict is right")
    return int(bool(problems))
