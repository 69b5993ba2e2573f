#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# ///
"""The one command of this repository. Needs Python 3.11 or newer, and nothing else.

`python3 lab.py up` starts everything; `python3 lab.py up --help` lists the options of a command.
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
    # PYTHONPATH, site-packages and import hooks of the user may have packages with our names.
    others = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path[:] = [os.path.dirname(__file__), *(path for path in sys.path if path not in others)]
    sys.meta_path[:] = [f for f in sys.meta_path if f.__module__.startswith("_frozen_importlib")]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tools", "benchmarks", "learn")]:
        del sys.modules[name]

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.command import bench
from learn.command import add_learn, learn
from learn.console import new_system
from tools.copies import backup, restore
from tools.doctor import clean, doctor, stop
from tools.environments import bundle, environment
from tools.machine import ROOT, TABLES, LabError, argument, refuse_taken_port, sentence
from tools.processes import Stopped, run, say, watch_signals

SERVICES: list[str] = TABLES["services"]
SUITES = [*SERVICES, "tests"]
LOCK, NO_TEST = "requirements.txt", 5  # the latter: an exit code of pytest
SKIPPED = ".//skipped[@message!='Citus is not installed: see tests/citus/README.md']"


def main() -> int:
    """Run the command given on the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    types = {kind: partial(argument, kind) for kind in TABLES["arguments"]} | {"path": Path}
    for name, rows in TABLES["commands"].items():
        about = rows.pop("about")
        command = commands.add_parser(name, help=about, description=about)
        for flag, row in rows.items():
            kind = {"type": types[row["type"]]} if "type" in row else {}
            command.add_argument(flag, **row | kind)
    add_learn(commands)
    known, more = parser.parse_known_args()
    options = vars(known)
    name = options.pop("command")  # no `:=`: Python 3.6 must read this file, for its message above
    if name == "test":
        options["pytest_options"] = more
    elif more:
        parser.error(f"unknown option {more[0]}")
    watch_signals()
    # For terminals that lack a character. There is no stdout if the parent process closed it.
    getattr(sys.stdout, "reconfigure", dict)(errors="replace")
    try:
        return COMMANDS[name](**options)
    except (LabError, OSError) as error:
        say(sentence(error))
        return error.exit_code if isinstance(error, LabError) else 2
    except Stopped:
        return 130


def up(
    api_port: str, dashboard_port: str, store: str | None, public: list[str], all_or_nothing: bool
) -> int:
    """Run the services until Ctrl-C. Raises LabError with the exit code of one that fails."""
    if api_port == dashboard_port:
        raise LabError("--api-port and --dashboard-port must differ")
    database, addresses = database_of(store), " ".join(public).replace(",", " ").split()
    published = {"PUBLIC_URL": ",".join(addresses)} if addresses else {}
    for flag, port in (("--api-port", api_port), ("--dashboard-port", dashboard_port)):
        refuse_taken_port(int(port), flag)
    url, system = f"http://localhost:{api_port}", new_system(all_or_nothing)

    def start(name: str, *flags: str, **variables: str) -> None:
        folder = TABLES["folder"][name]
        system.start(name, folder, environment(ROOT / folder, LOCK), *flags, **variables)

    try:  # one service starts while the next one is being installed
        start("api", f"--port={api_port}", **database, **published)
        start("dashboard", f"--server.port={dashboard_port}", API_URL=f"{url}/users/", **published)
        environment(ROOT / TABLES["folder"]["simulator"], LOCK)
        system.wait_for("the API", f"http://127.0.0.1:{api_port}/health")
        start("simulator", API_BASE_URL=url)
        system.wait_for("the dashboard", f"http://127.0.0.1:{dashboard_port}/_stcore/health")
        say(f"Dashboard          http://localhost:{dashboard_port}")
        say(f"API documentation  {url}/docs")
        for address in addresses:
            say(f"Public address     {address}")
        say("Ctrl-C stops everything")
        while True:
            system.pause(0.2)
    except Stopped:
        return 0
    finally:
        system.stop()


def database_of(store: str | None) -> dict[str, str]:
    """Return the variable that says where users are stored. Raises LabError."""
    file = ROOT / "users.db"
    if store == "memory":
        os.environ.pop("DATABASE_URL", None)
    if store != "sqlite":
        return {}
    if not all(os.access(path, os.W_OK) for path in (ROOT, file) if path.exists()):
        raise LabError(f"{file} cannot be written: use --store memory, or copy this folder")
    # Relative to the API's folder: a URL cannot contain every name of a folder.
    return {"DATABASE_URL": "sqlite:///../users.db"}


def test(
    suite: list[str] | None, strict: bool, long: bool, quick: bool, mutate: str,
    pytest_options: list[str],
) -> int:  # fmt: skip
    """Run the suites, each in its folder; 0 if all passed (and, if strict, none was skipped)."""
    suites, locks = suite or SUITES, (LOCK, "requirements-test.txt")
    asked = SERVICES if "tests" in suites else suites
    python = {name: environment(ROOT / name, *locks) for name in asked}
    if "tests" in suites:
        python["tests"] = environment(ROOT, "tests/requirements.txt")
    if mutate:
        return run([sys.executable, str(ROOT / "tests" / "mutate.py"), mutate])
    os.environ |= {"LAB_LONG": "1"} if long else {}
    (ROOT / ".lab").mkdir(exist_ok=True)
    failed, ran = [], False
    for name in [name for name in SUITES if name in suites]:
        say(f"testing {name}")
        report = ROOT / ".lab" / f"{name}.xml"
        command = [python[name], "-m", "pytest", f"--junitxml={report}", *TABLES["pytest"]]
        command += TABLES["quick"][name] if quick else ["tests"]
        code = run([*command, *pytest_options], ROOT if name == "tests" else ROOT / name)
        ran |= code != NO_TEST
        skipped = strict and code == 0 and ElementTree.parse(report).find(SKIPPED) is not None  # noqa: S314 - pytest wrote it
        if skipped or code not in ((0,) if strict else (0, NO_TEST)):
            failed.append(name)
    if failed or not ran:
        say("not passed: " + (", ".join(failed) or "no test was selected"))
    return int(bool(failed)) if ran else NO_TEST


def lint() -> int:
    """Run ruff, and mypy over each service and, for three systems, the tools; 0 if all is well."""
    tools = environment(ROOT, "tests/requirements.txt")
    codes = [run([tools, "-m", "ruff", *of]) for of in (["check"], ["format", "--check"])]
    mypy = [tools, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for name in SERVICES:
        python = environment(ROOT / name, LOCK, "requirements-test.txt")
        codes.append(run([*mypy, "--python-executable", python, "."], ROOT / name))
    for name in ("linux", "darwin", "win32"):
        on = [f"--platform={name}", f"--cache-dir=.mypy_cache/{name}"]
        codes.append(run([*mypy, *on, *TABLES["typed"]]))
    return int(any(codes))


def lock(upgrade: bool) -> int:
    """Pin every requirement with its hashes, for all platforms, and write the API's contract."""
    tools = environment(ROOT, "tests/requirements.txt")
    for source in (ROOT / name for name in TABLES["locked"]):
        pins = source.with_suffix(".txt")
        files = [source.name, "-o", pins.name, *(["--upgrade"] if upgrade else [])]
        if run([tools, *TABLES["lock"], *files], source.parent):
            return 1
        both = re.sub(TABLES["with_extras"], r"\1\2\g<0>", pins.read_text(encoding="utf-8"))
        pins.write_text(both, encoding="utf-8", newline="\n")
    api = environment(ROOT / "api", LOCK)
    return run([api, "-m", "tests.write_contract"], ROOT / "api")


FUNCTIONS = (up, learn, stop, doctor, clean, backup, restore, bundle, test, bench, lint, lock)
COMMANDS: dict[str, Callable[..., int]] = {each.__name__: each for each in FUNCTIONS}

if __name__ == "__main__":
    sys.exit(main())
