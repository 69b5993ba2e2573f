"""Writes docs/behaviour.md: what the tests prove, from their names and docstrings.

A test file is about one promise, which its first sentence states: `python3 tests/behaviour.py`.
"""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "behaviour.md"
SUITES = {
    "The API": "api/tests",
    "The simulator": "data_ingestion_simulator/tests",
    "The dashboard": "frontend/tests",
    "The whole system": "tests",
}
HEAD = """# Behaviour

What the tests prove, grouped by promise: the name of each test, and its docstring.
`python3 tests/behaviour.py` writes this page.
"""


def files_of(suite: str) -> list[Path]:
    """Return the test files of a suite."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    command.append(f"{SUITES[suite]}/test_*.py")
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in sorted(names.split()) if (ROOT / name).exists()]


def promise(file: Path) -> str:
    """Return the first paragraph of a file's docstring, as a title."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".")


def behaviour(file: Path) -> dict[str, str]:
    """Return what each test of a file proves, by its name in words."""
    found = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    tests = [each for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        test.name.removeprefix("test_").replace("_", " ").capitalize(): " ".join(
            (ast.get_docstring(test) or "").split()
        )
        for test in tests
        if test.name.startswith("test_")
    }


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for suite in SUITES:
        parts.append(f"## {suite}\n")
        for file in files_of(suite):
            rows = [f"- **{name}.** {text}\n" for name, text in behaviour(file).items()]
            parts.append(f"### {promise(file)}\n\n{''.join(rows)}")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
