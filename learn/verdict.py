"""The verdict of a check: PASS, FAIL or VOID, and how it is printed."""

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

BROKEN = "the check itself failed"  # the mission has a mistake, not the learner's program


class Fail(Exception):
    """The learner's program does not do what the mission asks."""

    def __init__(self, expected: str, seen: str, example: str = "", look: str = "") -> None:
        super().__init__(seen)
        self.expected, self.seen, self.example, self.look = expected, seen, example, look


class Void(Exception):
    """The check proves nothing; the message says why, such as "the fault never struck"."""


@dataclass
class Verdict:
    """What a check found out. `measured` is what the mission's prediction was about."""

    verdict: str  # PASS, FAIL or VOID
    seed: int = 0
    seconds: float = 0.0
    measured: str = ""
    expected: str = ""
    seen: str = ""
    example: str = ""
    look: str = ""
    output: str = ""  # the last lines of the learner's program

    def as_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {key: value for key, value in asdict(self).items() if value != ""}

    def lines(self, prediction: str = "", at_first: str = "") -> list[str]:
        """Return what a learner reads; the prediction is about what was measured at first."""
        rows = [("Expected", self.expected), ("Seen", self.seen), ("Example", self.example)]
        rows += [("Look at", self.look)]
        if self.measured:
            rows += [("You predicted", prediction), ("Measured", at_first or self.measured)]
        if self.measured and at_first not in ("", self.measured):
            rows[-1:] = [("First run", at_first), ("This run", self.measured)]
        shown = [f"  {name + ':':<15}{text}" for name, text in rows if text]
        if self.output and self.verdict != "PASS":
            shown += [
                "  Your program printed last:",
                *textwrap.indent(self.output, "    | ").split("\n"),
            ]
        return [f"{self.verdict}  ({self.seconds:.1f} s, seed {self.seed})", *shown]

    @property
    def exit_code(self) -> int:
        """0 for PASS, 1 for FAIL, 3 for VOID; 2 is a mistake in the command."""
        return {"PASS": 0, "FAIL": 1}.get(self.verdict, 3)
