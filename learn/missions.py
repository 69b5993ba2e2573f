"""A mission: its folder, its texts, and the places of the real API that it leads to."""

import ast
import re
import runpy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.processes import ROOT, LabError

FOLDER = ROOT / "learn" / "missions"


def defined(node: Any) -> set[str]:
    """Return the names that a statement defines: a class, a function, a constant."""
    names = {target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)}
    return names | {getattr(node, "name", "")}


@dataclass(frozen=True)
class Real:
    """How the real system does it: a file, a definition in it, and a sentence."""

    path: str  # from the top folder
    name: str  # such as "Client.retry"
    how: str

    def place(self) -> str:
        """Return the file and lines, such as "api/crud.py:20-35". Raises LookupError."""
        node: Any = ast.parse((ROOT / self.path).read_text(encoding="utf-8"))
        for name in self.name.split("."):
            found = [child for child in node.body if name in defined(child)]
            if not found:
                raise LookupError(f"{self.path} has no {self.name}")
            node = found[-1]
        last = "" if node.end_lineno == node.lineno else f"-{node.end_lineno}"
        return f"{self.path}:{node.lineno}{last}"


@dataclass(frozen=True)
class Mission:
    """What `mission.py` says about its mission; its function `check(world)` is the check."""

    minutes: int  # that a learner needs
    aim: str  # what the learner can do afterwards, for the instructor
    prediction: str  # a question; the answer is a number, and `world.measured` has it
    why: str  # a sentence that explains what was measured, shown after PASS
    result: str  # what the starter does, and what the solution does, for the instructor
    board: str  # a question to discuss
    hints: tuple[str, str, str]
    real: tuple[Real, ...]
    limit_seconds: int = 30  # for one check
    needs_docker: bool = False


@dataclass(frozen=True)
class Loaded:
    """A mission and its folder, such as `05_lost_response`."""

    folder: Path
    mission: Mission
    check: Callable[[Any], Awaitable[None]]

    @property
    def number(self) -> int:
        """The number in the folder's name."""
        return int(self.folder.name[:2])

    @property
    def title(self) -> str:
        """The title in `mission.md`."""
        return self.text.partition("\n")[0].strip("# ")

    @property
    def text(self) -> str:
        """`mission.md`."""
        return (self.folder / "mission.md").read_text(encoding="utf-8")

    def text_for_terminal(self) -> str:
        """Return `mission.md` without its title, and without the marks of Markdown."""
        body = self.text.partition("\n")[2].strip()
        return (
            re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", body)
            .replace("**Terms**", "Terms (in docs/glossary.md)")
            .replace("**", "")
        )

    @property
    def starter(self) -> Path:
        """The file from which the learner starts."""
        return self.folder / "starter.py"

    @property
    def solution(self) -> Path:
        """A file that passes."""
        return self.folder / "solution.py"

    def wrong(self) -> list[Path]:
        """Return the usual mistakes, each a file that must fail."""
        return sorted((self.folder / "wrong").glob("*.py"))

    def lines_of_the_real_system(self) -> list[str]:
        """Return where, and how, the real system does it."""
        lines = []
        for real in self.mission.real:
            with suppress(LookupError, OSError, SyntaxError):  # a learner may have changed the file
                lines.append(f"{real.place()}  {real.how}")
        return lines


def mistake(path: Path) -> tuple[str, str]:
    """Return a wrong solution's mistake, and the sentence with which it must fail.

    They are the docstring of the file: `The mistake.`, an empty line, `Seen: the sentence`, in
    which `…` is any text.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    what, _, seen = text.partition("\n\nSeen: ")
    return " ".join(what.split()), " ".join(seen.split())


def load(number: int) -> Loaded:
    """Return a mission. Raises LabError if there is none with this number."""
    folders = {int(path.name[:2]): path for path in FOLDER.glob("[0-9][0-9]_*")}
    if number not in folders:
        known = ", ".join(map(str, sorted(folders)))
        raise LabError(f"there is no mission {number}: choose one of {known}")
    path = folders[number] / "mission.py"
    names = runpy.run_path(str(path))
    return Loaded(folders[number], names["MISSION"], names["check"])


def load_all() -> list[Loaded]:
    """Return all missions, by their numbers."""
    return [load(int(path.name[:2])) for path in sorted(FOLDER.glob("[0-9][0-9]_*"))]
