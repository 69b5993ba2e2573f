#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# ///
"""The one command of this repository. Needs Python 3.11 or newer, and nothing else.

    python3 lab.py up      start the API, the simulator and the dashboard
    python3 lab.py test    run every test
    python3 lab.py bench   measure the speed, beside other frameworks and clients
    python3 lab.py lint    run ruff and mypy
    python3 lab.py lock    write requirements.txt from requirements.in, and contract/openapi.json

`python3 lab.py up --help` lists the options of a command.
"""

import sys

# Ctrl-C before `watch_signals` ends us without a traceback.
sys.excepthook = lambda kind, *more: (
    None if kind is KeyboardInterrupt else sys.__excepthook__(kind, *more)
)
if sys.version_info < (3, 11):  # noqa: UP036 - older versions must get this message
    print(f"lab: needs Python 3.11 or newer, this is {sys.version.split()[0]}", file=sys.stderr)
    sys.exit(2)

import os

if __name__ == "__main__":
    # Import from this folder first: PYTHONPATH, site-packages and import hooks of the user's Python
    # may have packages with our names.
    others = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)}  # noqa: PTH100
    ours = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [ours, *(path for path in sys.path if path not in others)]
    sys.meta_path[:] = [f for f in sys.meta_path if f.__module__.startswith("_frozen_importlib")]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tools", "benchmarks")]:
        del sys.modules[name]

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.command import PARTS, bench
from tools.environments import environment
from tools.machine import cure_for
from tools.ports import port_number, refuse_taken_port
from tools.processes import ROOT, LabError, ServiceEnded, Stopped, System, run, say, watch_signals

SERVICES = ("api", "data_ingestion_simulator", "frontend")
SUITES = (*SERVICES, "tests")
LOCKED = (*SUITES, "benchmarks/api", "benchmarks/dashboard", "benchmarks/simulator")
# A client that does not read its response must not prevent the server from stopping.
SHUTDOWN = ("--timeout-graceful-shutdown", "3")
# On a busy machine a test may miss its deadline: three tests of a suite may fail once.
RERUNS = ("--reruns=1", "--reruns-delay=5", "--max-suite-reruns=3", "--rerun-show-tracebacks")
NO_TEST_SELECTED = 5  # pytest's exit code
# mypy finds the other files of tools and benchmarks by their imports.
TYPED = ("lab.py", "tests", "benchmarks/images.py")
WRITE_CONTRACT = """
import json, main, openapi, pathlib, sys
contract = json.dumps(openapi.openapi_document(main.app), indent=2, ensure_ascii=False) + "\\n"
pathlib.Path(sys.argv[1]).write_text(contract, encoding="utf-8", newline="\\n")
"""


def main() -> int:
    """Run the command given on the command line and return its exit code."""
    parser = arguments()
    options, pytest_options = parser.parse_known_args()
    if pytest_options and options.command != "test":
        parser.error(f"unknown option {pytest_options[0]}")
    watch_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that lack a character
    try:
        # No `match`: older versions of Python must read this file to print the message above.
        if options.command == "up":
            return up(options.api_port, options.dashboard_port, options.store)
        if options.command == "test":
            return test(options.suite or SUITES, options.strict, options.long, pytest_options)
        if options.command == "bench":
            return bench(options.part, options.quick, options.output)
        return lint() if options.command == "lint" else lock(options.upgrade)
    except LabError as error:
        say(str(error))
        return 2
    except OSError as error:  # of the user's machine: permissions, the disk …
        say(f"{error.filename or 'lab.py'}: {error.strerror}: {cure_for(str(error))}".rstrip(": "))
        return 2
    except Stopped:
        return 130


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser("up", help="start the three services")
    add.add_argument("--api-port", type=port_number, default=8000, metavar="N")
    add.add_argument("--dashboard-port", type=port_number, default=8501, metavar="N")
    stores = "where to keep the users: in memory, until the API ends, or in users.db"
    stores += "\n(default: what DATABASE_URL says, else memory)"
    add.add_argument("--store", choices=("memory", "sqlite"), help=stores)
    add = commands.add_parser("test", help="run every test; other options are passed to pytest")
    add.add_argument("--suite", choices=SUITES, action="append", help="only this one (repeatable)")
    add.add_argument("--long", action="store_true", help="the long suites at their full size")
    add.add_argument("--strict", action="store_true", help="a skipped test is a failure")
    add = commands.add_parser("bench", help="measure the speed")
    add.add_argument("part", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    add.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    add.add_argument("--output", type=Path, default=ROOT / ".lab" / "bench", metavar="FOLDER")
    commands.add_parser("lint", help="run ruff and mypy")
    add = commands.add_parser("lock", help="lock the requirements, write the contract")
    add.add_argument("--upgrade", action="store_true", help="take the newest versions")
    return parser


# ---------------------------------------------------------------------------------- the commands


def up(api_port: int, dashboard_port: int, store: str | None) -> int:
    """Run the services until Ctrl-C (returns 0) or until one fails (returns its exit code).

    A simulator that has sent all its users is no failure: the other services continue.
    """
    if api_port == dashboard_port:
        raise LabError("--api-port and --dashboard-port must differ")
    if store:
        os.environ.pop("DATABASE_URL", None)
    database = {}
    if store == "sqlite":
        file = ROOT / "users.db"
        if not os.access(file if file.exists() else ROOT, os.W_OK) or not os.access(ROOT, os.W_OK):
            raise LabError(f"{file} cannot be written: use --store memory, or copy this folder")
        # Relative to the API's folder: a URL cannot contain every name of a folder.
        database = {"DATABASE_URL": "sqlite:///../users.db"}
    for flag, port in (("--api-port", api_port), ("--dashboard-port", dashboard_port)):
        refuse_taken_port(port, flag)
    api, simulator, dashboard = (environment(ROOT / name, "requirements.txt") for name in SERVICES)
    url, simulator_folder = f"http://localhost:{api_port}", "data_ingestion_simulator"
    uvicorn = (api, "-m", "uvicorn", "main:app", "--port", str(api_port), *SHUTDOWN)
    streamlit = (dashboard, "-m", "streamlit", "run", "app.py", f"--server.port={dashboard_port}")
    system = System()
    try:
        system.start("api", "api", *uvicorn, **database)
        system.wait_for("the API", f"http://127.0.0.1:{api_port}/health")
        system.start("simulator", simulator_folder, simulator, "main.py", API_BASE_URL=url)
        system.start("dashboard", "frontend", *streamlit, API_URL=f"{url}/users/")
        system.wait_for("the dashboard", f"http://127.0.0.1:{dashboard_port}/_stcore/health")
        say(f"Dashboard          http://localhost:{dashboard_port}")
        say(f"API documentation  {url}/docs")
        say("Ctrl-C stops everything")
        while True:
            system.pause(0.2)
    except ServiceEnded as ended:
        say(f"{ended.name} ended with exit code {ended.code}: stopping the others")
        return (ended.code or 1) if ended.code >= 0 else 128 - ended.code  # a signal, as in a shell
    except Stopped:
        return 0
    finally:
        system.stop()


def test(suites: Sequence[str], strict: bool, long: bool, pytest_options: list[str]) -> int:
    """Run the suites, each in its folder; 0 if all passed (and, if strict, none was skipped)."""
    python = {
        name: environment(ROOT / name, "requirements.txt", "requirements-test.txt")
        for name in SERVICES
        if name in suites or "tests" in suites
    }
    if "tests" in suites:
        python["tests"] = environment(ROOT, "tests/requirements.txt")
    if long:
        os.environ["LAB_LONG"] = "1"
    (ROOT / ".lab").mkdir(exist_ok=True)
    failed, ran = [], 0
    for name in [suite for suite in SUITES if suite in suites]:
        say(f"testing {name}")
        report = ROOT / ".lab" / f"{name}.xml"
        command = [python[name], "-m", "pytest", "tests", f"--junitxml={report}", *RERUNS]
        code = run([*command, *pytest_options], ROOT if name == "tests" else ROOT / name)
        ran += code != NO_TEST_SELECTED
        skipped = ElementTree.parse(report).findall(".//skipped") if strict and code == 0 else []  # noqa: S314 - pytest wrote it
        if code not in (0, NO_TEST_SELECTED) or skipped:
            failed.append(name + "".join(f"\n  skipped: {test.get('message')}" for test in skipped))
    if failed or not ran:
        say("not passed: " + (", ".join(failed) or "no test was selected"))
        return 1
    return 0


def lint() -> int:
    """Run ruff over everything and mypy over each service and the tools; 0 if all is well.

    The tools and tests run on three systems, so mypy checks the code for each of them.
    """
    tools = environment(ROOT, "tests/requirements.txt")
    codes = [
        run([tools, "-m", "ruff", "check", "."]),
        run([tools, "-m", "ruff", "format", "--check", "."]),
    ]
    mypy = [tools, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for name in SERVICES:
        python = environment(ROOT / name, "requirements.txt", "requirements-test.txt")
        codes.append(run([*mypy, "--python-executable", python, "."], ROOT / name))
    for system in ("linux", "darwin", "win32"):
        cache = f"--cache-dir=.mypy_cache/{system}"
        codes.append(run([*mypy, f"--platform={system}", cache, *TYPED]))
    return int(any(codes))


def pin_without_extras(lock: Path) -> None:
    """Add to each pin of a package with extras, such as `a[b]`, the same pin without them.

    For pip before 23.3, `a[b]` and `a` are two packages. It installs the newest release of the one
    that is not pinned, and fails because the lock has no hash of that release.
    """
    pins = lock.read_text(encoding="utf-8")
    both = re.sub(r"^([\w.-]+)\[[^]]*\]((?:.*\\\n)+.*\n)", r"\1\2\g<0>", pins, flags=re.M)
    lock.write_text(both, encoding="utf-8", newline="\n")


def lock(upgrade: bool) -> int:
    """Pin every requirement with its hashes, for all platforms, and write the API's contract."""
    tools = environment(ROOT, "tests/requirements.txt")
    for name in ("requirements", "requirements-test"):
        for folder in LOCKED:
            source = ROOT / folder / f"{name}.in"
            command = [
                tools, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes",
                "--no-strip-extras",
                "--python-version", "3.11", "--custom-compile-command", "python3 lab.py lock",
                *(["--upgrade"] if upgrade else []), source.name, "-o", f"{name}.txt",
            ]  # fmt: skip
            if source.exists():
                if run(command, source.parent):
                    return 1
                pin_without_extras(source.with_suffix(".txt"))
    api = environment(ROOT / "api", "requirements.txt")
    return run([api, "-c", WRITE_CONTRACT, str(ROOT / "contract" / "openapi.json")], ROOT / "api")


if __name__ == "__main__":
    sys.exit(main())
