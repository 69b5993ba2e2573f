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
# Fast tests that are not about a database: by service, and what they leave out.
SERVICES = {
    "api": (
        ["crud", "models", "errors", "calls", "middleware", "fast_route"],
        ["model", "contract", "stores", "batch", "versions", "listing", "errors", "middleware"],
        "not postgresql and not sqlite and not slow",
    ),
    "data_ingestion_simulator": (
        ["generator", "client", "main"],
        ["generator", "client", "batches", "outages", "scheduler"],
        "not slow",
    ),
    "frontend": (
        ["ages", "api_client", "app"],
        ["ages", "age_counts", "api_client"],
        "not slow",
    ),
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
    {left_out}
pytest_add_cli_args_test_selection=
    {tests}
"""


def prepare(service: str, name: str) -> Path:
    """Return a new copy of a service, with mutmut's settings for a file."""
    folder = ROOT / ".lab" / "mutants" / name
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns(".*", "__pycache__", "users.db")
    shutil.copytree(ROOT / service, folder, ignore=left_out)
    for other in ("contract", "deploy", "docs", "pyproject.toml"):
        (folder / other).symlink_to(ROOT / other)
    _, tests, without = SERVICES[service]
    files = "\n    ".join(f"tests/test_{test}.py" for test in tests)
    settings = SETTINGS.format(name=name, left_out=without, tests=files)
    (folder / "setup.cfg").write_text(settings, encoding="utf-8")
    return folder


def main() -> int:
    """Mutate one file of the core; print the survivors and the score."""
    names = {name: service for service, (files, *_) in SERVICES.items() for name in files}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=names)
    name = parser.parse_args().name
    python = ROOT / names[name] / ".venv" / "bin" / "python"
    folder = prepare(names[name], name)
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
