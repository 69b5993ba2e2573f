"""Changes the core in small ways, one by one, and counts the changes that some test notices.

`python3 lab.py test --mutate crud` does so for one file, with mutmut, in a copy of its service:
docs/testing.md has the results. Only functions are changed: mutmut leaves tables and types alone.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORE = ["model", "stores", "versions", "batch", "contract", "listing"]
REQUESTS = ["contract", "errors", "middleware", "fast_route", "batch"]
# The files of the core, without the assembly: the service of each, and tests that are about it.
FILES = {
    "crud": ("api", STORE),
    "models": ("api", REQUESTS),
    "errors": ("api", REQUESTS),
    "calls": ("api", REQUESTS),
    "middleware": ("api", [*REQUESTS, "access", "token"]),
    "fast_route": ("api", REQUESTS),
    "generator": ("data_ingestion_simulator", ["generator"]),
    "client": ("data_ingestion_simulator", ["client", "batches", "outages"]),
    "ages": ("frontend", ["ages", "age_counts"]),
    "api_client": ("frontend", ["api_client", "poller"]),
}
# The API takes a `run` in the command line for that of `fastapi run`.
MUTMUT = """
import sys
words, sys.argv[1:] = sys.argv[1:], []
from mutmut.__main__ import cli
cli(words)
"""
SETTINGS = """[mutmut]
source_paths=
    .
only_mutate=
    {name}.py
pytest_add_cli_args=
    -k
    not postgresql and not sqlite
pytest_add_cli_args_test_selection=
    {tests}
"""


def prepare(name: str) -> Path:
    """Return a new copy of a file's service, with mutmut's settings for the file."""
    service, tests = FILES[name]
    folder = ROOT / ".lab" / "mutants" / name
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns(".*", "__pycache__", "users.db")
    shutil.copytree(ROOT / service, folder, ignore=left_out)
    for other in ("contract", "deploy", "docs", "pyproject.toml"):
        (folder / other).symlink_to(ROOT / other)
    files = "\n    ".join(f"tests/test_{test}.py" for test in tests)
    settings = SETTINGS.format(name=name, tests=files)
    (folder / "setup.cfg").write_text(settings, encoding="utf-8")
    return folder


def main() -> int:
    """Mutate one file of the core; print the survivors and the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=FILES)
    name = parser.parse_args().name
    folder, python = prepare(name), ROOT / FILES[name][0] / ".venv" / "bin" / "python"
    mutmut = [str(python), "-c", MUTMUT]
    code = subprocess.run([*mutmut, "run"], cwd=folder).returncode
    results = [*mutmut, "results", "--all", "true"]
    found = subprocess.run(results, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    mutants = [line.strip() for line in found.stdout.splitlines() if ": " in line]
    alive = [each for each in mutants if not each.endswith((": killed", ": timeout"))]
    print(*alive, f"{name}: {len(mutants) - len(alive)} of {len(mutants)} killed", sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
