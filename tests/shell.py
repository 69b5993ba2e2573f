"""Runs the shell blocks of a document, from top to bottom, as a reader does.

A line `# → text` under a command says what its output contains; `…` matches any text. A block that
starts a server gets a new terminal, which stays open; the other blocks share one shell.
`<!-- ctrl-c -->` presses Ctrl-C in the open terminals, and `<!-- skip: next "reason" -->` leaves a
block out.
"""

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

from conftest import Terminal
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.typing import Parser

STAYS = re.compile(
    r"lab\.py up|fastapi dev|python main\.py|streamlit run"
    r"|docker run(?!.*(--detach|--rm))|docker-compose up(?!.*--detach)|docker logs -f",
    re.S,
)
BLOCK_SECONDS = 300  # an installation on a slow network


class Shell:
    """The terminals of a reader of one document."""

    def __init__(self, open_terminal: Callable[..., Terminal], folder: Path, path: str) -> None:
        self._open = open_terminal
        self._folder = folder
        self._path = path
        self._servers: list[Terminal] = []
        self._shells = [self._bash("-s")]  # the last one gets the input

    def _bash(self, *options: str) -> Terminal:
        return self._open("bash", *options, folder=self._folder, PATH=self._path)

    def run(self, block: str) -> None:
        """Run a block. Raises AssertionError if the output does not contain the stated results."""
        # Without a real terminal, -t would fail; -i alone passes the input on.
        commands = re.sub("^#.*\n?", "", block, flags=re.M).replace(" -it ", " -i ").strip()
        expected = re.findall(r"^# → (.*)$", block, re.M)
        if re.search(r"docker exec -i \S+ \S+sh$", commands):
            self._shells.append(self._bash("-c", f"exec {commands}"))
            # Docker copies two streams without an order: results and errors need one.
            self._shells[-1].type("exec 2>&1\n")
        elif STAYS.search(commands):
            self._servers.append(self._bash("-c", commands))
            for text in expected:
                self._servers[-1].wait_for(pattern(text), deadline_seconds=BLOCK_SECONDS)
        else:
            self._type(commands.removesuffix("exit"), expected)
            if commands.endswith("exit"):
                self._shells.pop().hang_up()

    def _type(self, commands: str, expected: list[str]) -> None:
        """Type commands into the shell, wait for their end, and check their output."""
        shell = self._shells[-1]
        start, mark = len(shell.lines), uuid.uuid4().hex
        shell.type(f"{commands}\necho {mark} $?\n")
        shell.wait_for(mark, deadline_seconds=BLOCK_SECONDS)
        text, _, code = "\n".join(shell.lines[start:]).partition(mark)
        position = 0
        for line in expected:
            found = pattern(line).search(text, position)
            assert found, f"{line!r} is not in the output:\n{text[position:]}"
            position = found.end()
        assert expected or code.split()[0] == "0", f"the block failed:\n{text}"

    def ctrl_c(self) -> None:
        """Press Ctrl-C in every terminal with a server."""
        while self._servers:
            self._servers.pop().interrupt()


def pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a stated result."""
    return re.compile(".*".join(map(re.escape, text.strip().split("…"))))


class CtrlCParser:
    """Finds `<!-- ctrl-c -->` in a document."""

    def __call__(self, document: Document) -> list[Region]:
        found = re.finditer(r"^<!-- ctrl-c -->$", document.text, re.M)
        return [Region(match.start(), match.end(), None, self.evaluate) for match in found]

    def evaluate(self, example: Example) -> None:
        example.namespace["shell"].ctrl_c()


def run_block(example: Example) -> None:
    """Run one block in the document's shell."""
    example.namespace["shell"].run(example.parsed)


def run_document(path: Path, shell: Shell) -> tuple[int, list[str]]:
    """Run a document; return the number of its blocks that ran, and why the others did not."""
    parsers: list[Parser] = [CodeBlockParser("bash", run_block), SkipParser(), CtrlCParser()]
    document = Sybil(parsers=parsers).parse(path)
    document.namespace["shell"] = shell
    ran, left_out = 0, []
    for example in document.examples():
        try:
            example.evaluate()
            ran += isinstance(example.parsed, str)
        except SkipTest as reason:
            left_out.append(str(reason))
        except AssertionError as error:
            raise AssertionError(f"{path.name}, line {example.line}: {error}") from None
    return ran, left_out
