#!/usr/bin/env python3
"""The one command of this repository. Needs Python 3.11 or newer, and nothing else.

    python3 lab.py up      start the API, the simulator and the dashboard
    python3 lab.py test    run every test
    python3 lab.py bench   how fast it is, beside others
    python3 lab.py lint    ruff and mypy
    python3 lab.py lock    write requirements.txt from requirements.in, and contract/openapi.json

`python3 lab.py up --help` tells the options of a command.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one shall be told so
    print(f"lab: needs Python 3.11 or newer, this is {sys.version.split()[0]}", file=sys.stderr)
    sys.exit(2)

import argparse
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.command import PARTS, bench
from tools.environments import environment
from tools.ports import port_number, refuse_taken_port
from tools.processes import ROOT, LabError, ServiceEnded, Stopped, System, run, say, watch_signals

SERVICES = ("api", "data_ingestion_simulator", "frontend")
SUITES = (*SERVICES, "tests")
LOCKED = (*SUITES, "benchmarks/api", "benchmarks/dashboard", "benchmarks/simulator")
# A client that never reads its answer must not keep a stopped server alive.
GRACEFULLY = ("--timeout-graceful-shutdown", "3")
# A machine with other work misses a deadline now and then: three tests of a suite may fail once.
AGAIN = ("--reruns=1", "--reruns-delay=5", "--max-suite-reruns=3", "--rerun-show-tracebacks")
WRITE_CONTRACT = """
import json, main, pathlib, sys
contract = json.dumps(main.app.openapi(), indent=2, ensure_ascii=False) + "\\n"
pathlib.Path(sys.argv[1]).write_text(contract, encoding="utf-8", newline="\\n")
"""


def main() -> int:
    """Run the command given on the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser("up", help="start the three services")
    add.add_argument("--api-port", type=port_number, default=8000, metavar="N")
    add.add_argument("--dashboard-port", type=port_number, default=8501, metavar="N")
    kept = "where users are kept: memory, until the API ends, or sqlite, in users.db"
    kept += "\n(default: what DATABASE_URL says, else memory)"
    add.add_argument("--store", choices=("memory", "sqlite"), help=kept)
    add = commands.add_parser("test", help="run every test; what it does not know goes to pytest")
    add.add_argument("--suite", choices=SUITES, action="append", help="only this one (repeatable)")
    add.add_argument("--long", action="store_true", help="the heavy suites at their full figures")
    add.add_argument("--strict", action="store_true", help="a skipped test is a failure")
    add = commands.add_parser("bench", help="measure it beside others")
    add.add_argument("part", nargs="*", metavar="PART", help=f"all, or some of {', '.join(PARTS)}")
    add.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    add.add_argument("--output", type=Path, default=ROOT / ".lab" / "bench", metavar="FOLDER")
    commands.add_parser("lint", help="run ruff and mypy")
    add = commands.add_parser("lock", help="lock the requirements, write the contract")
    add.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options, rest = parser.parse_known_args()
    if rest and options.command != "test":
        parser.error(f"unknown option {rest[0]}")
    watch_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a narrow code page must not stop a service
    try:
        if options.command == "up":
            return up(options.api_port, options.dashboard_port, options.store)
        if options.command == "test":
            return test(options.suite or SUITES, options.strict, options.long, rest)
        if options.command == "bench":
            return bench(options.part, options.quick, options.output)
        return lint() if options.command == "lint" else lock(options.upgrade)
    except LabError as error:
        say(str(error))
        return 2
    except Stopped:
        return 130


# ---------------------------------------------------------------------------------- the commands


def up(api_port: int, dashboard_port: int, store: str | None) -> int:
    """Run the three services until Ctrl-C (0) or until one of them fails (its exit code).

    A simulator that has sent all it was to send has not: the others go on.
    """
    if api_port == dashboard_port:
        raise LabError("--api-port and --dashboard-port must differ")
    if store:
        os.environ.pop("DATABASE_URL", None)
    database = {"DATABASE_URL": f"sqlite:///{ROOT / 'users.db'}"} if store == "sqlite" else {}
    for flag, port in (("--api-port", api_port), ("--dashboard-port", dashboard_port)):
        refuse_taken_port(port, flag)
    api, simulator, dashboard = (environment(ROOT / name, "requirements.txt") for name in SERVICES)
    api_url = f"http://localhost:{api_port}"
    system = System()
    try:
        serve = (api, "-m", "uvicorn", "main:app", "--port", str(api_port), *GRACEFULLY)
        system.start("api", "api", *serve, **database)
        system.wait_for(f"http://127.0.0.1:{api_port}/health")
        system.start(
            "simulator", "data_ingestion_simulator", simulator, "main.py", API_BASE_URL=api_url
        )
        system.start(
            "dashboard", "frontend", dashboard,
            "-m", "streamlit", "run", "app.py", "--server.port", str(dashboard_port),
            API_URL=f"{api_url}/users/",
        )  # fmt: skip
        system.wait_for(f"http://127.0.0.1:{dashboard_port}/_stcore/health")
        say(f"Dashboard          http://localhost:{dashboard_port}")
        say(f"API documentation  {api_url}/docs")
        say("Ctrl-C stops everything")
        while True:
            system.pause(0.2)
    except ServiceEnded as ended:
        say(f"{ended.name} ended with exit code {ended.code}: stopping the others")
        # A signal's number as a shell would tell it.
        return (ended.code or 1) if ended.code >= 0 else 128 - ended.code
    except Stopped:
        return 0
    finally:
        system.stop()


def test(suites: Sequence[str], strict: bool, long: bool, pytest_options: list[str]) -> int:
    """Run the suites, each from its own folder; 0 if all passed (and, if strict, none skipped)."""
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
        command = [python[name], "-m", "pytest", "tests", f"--junitxml={report}", *AGAIN]
        code = run([*command, *pytest_options], ROOT if name == "tests" else ROOT / name)
        ran += code != 5  # pytest's word for "nothing selected": -k may concern one suite only
        skipped = ElementTree.parse(report).findall(".//skipped") if strict and code == 0 else []  # noqa: S314 - pytest wrote it
        if code not in (0, 5) or skipped:
            failed.append(name + "".join(f"\n  skipped: {test.get('message')}" for test in skipped))
    if failed or not ran:
        say("not passed: " + (", ".join(failed) or "no test was selected"))
        return 1
    return 0


def lint() -> int:
    """Run ruff over everything and mypy over each service; 0 if neither complains."""
    tools = environment(ROOT, "tests/requirements.txt")
    codes = [
        run([tools, "-m", "ruff", "check", "."]),
        run([tools, "-m", "ruff", "format", "--check", "."]),
    ]
    mypy = [tools, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for name in SERVICES:
        python = environment(ROOT / name, "requirements.txt", "requirements-test.txt")
        codes.append(run([*mypy, "--python-executable", python, "."], ROOT / name))
    codes.append(run([*mypy, "lab.py", "tests"]))
    return int(any(codes))


def pin_without_extras(lock: Path) -> None:
    """Pin what is pinned with extras without them, too.

    To pip before 23.3 the two are strangers: it takes the newest release of the one that is not
    pinned, and fails for want of its hash on the day when that is not the other's release.
    """
    pins = lock.read_text(encoding="utf-8")
    both = re.sub(r"^([\w.-]+)\[[^]]*\]((?:.*\\\n)+.*\n)", r"\1\2\g<0>", pins, flags=re.M)
    lock.write_text(both, encoding="utf-8", newline="\n")


def lock(upgrade: bool) -> int:
    """Pin every requirement with its hashes, for all platforms; write what the API promises."""
    tools = environment(ROOT, "tests/requirements.txt")
    for name in ("requirements", "requirements-tracing", "requirements-test"):
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
