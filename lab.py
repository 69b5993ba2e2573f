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
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.command import bench
from learn.command import add_learn, learn
from learn.console import new_system
from tools.copies import backup, restore
from tools.doctor import clean, doctor, stop
from tools.environments import bundle, environment
from tools.machine import ROOT, TABLES, LabError, argument, refuse_taken_port, sentence
from tools.processes import Stopped, finish, launch, run, say, watch_signals

SERVICES: list[str] = TABLES["services"]
SUITES = [*SERVICES, "tests"]
NO_TEST = 5  # pytest's exit code
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

    def start(name: str, *options: str, **variables: str) -> None:
        folder = TABLES["folder"][name]
        python = environment(ROOT / folder, "requirements.txt")
        system.start(name, folder, python, *options, **variables)

    try:  # one service starts while the next one is being installed
        start("api", f"--port={api_port}", **database, **published)
        on_port = f"--server.port={dashboard_port}"
        start("dashboard", on_port, API_URL=f"{url}/users/", **published)
        environment(ROOT / TABLES["folder"]["simulator"], "requirements.txt")
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
    """Run the suites side by side; return 0 if all passed (and, if strict, none was skipped)."""
    suites = [name for name in SUITES if name in (suite or SUITES)]
    locks, several = ("requirements.txt", "requirements-test.txt"), len(suites) > 1
    asked = SERVICES if "tests" in suites else suites
    python = {name: environment(ROOT / name, *locks) for name in asked}
    if "tests" in suites:
        python["tests"] = environment(ROOT, "tests/requirements.txt")
    if mutate:
        return run([sys.executable, str(ROOT / "tests" / "mutate.py"), mutate])
    os.environ |= {"LAB_LONG": "1"} if long else {}
    (folder := ROOT / ".lab").mkdir(exist_ok=True)
    processes, codes = {}, {}
    try:
        for name in suites:
            command = [python[name], "-m", "pytest", f"--junitxml={folder / name}.xml"]
            command += [*TABLES["pytest"][name], *(TABLES["quick"][name] if quick else ["tests"])]
            with (folder / f"{name}.log").open("wb") if several else nullcontext() as log:
                options: dict[str, Any] = {"stdout": log, "stderr": log, "creationflags": 0}
                where = ROOT if name == "tests" else ROOT / name
                processes[name] = launch([*command, *pytest_options], where, **options)
    finally:  # after Ctrl-C too: each pytest ends the processes of its tests
        with ExitStack() as ends:
            for name, process in reversed(processes.items()):
                ends.callback(lambda *of: codes.update({of[0]: finish(of[1])}), name, process)
    for name in codes if strict else []:
        report = ElementTree.parse(folder / f"{name}.xml")  # noqa: S314 - pytest wrote it
        codes[name] = codes[name] or int(report.find(SKIPPED) is not None)
    failed = [name for name in codes if codes[name] not in ((0,) if strict else (0, NO_TEST))]
    ran = {*codes.values()} != {NO_TEST}
    if failed or not ran:
        say("not passed: " + (", ".join(failed) or "no test was selected"))
    for name in sorted(codes, key=failed.__contains__) if several else []:
        print((folder / f"{name}.log").read_text(encoding="utf-8", errors="replace"), end="")
    return int(bool(failed)) if ran else NO_TEST


def lint() -> int:
    """Run ruff, and mypy over each service and, for three systems, the tools; 0 if all is well."""
    tools = environment(ROOT, "tests/requirements.txt")
    ruff = (["check", "."], ["format", "--check", "."])
    codes = [run([tools, "-m", "ruff", *options]) for options in ruff]
    mypy = [tools, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for name in SERVICES:
        python = environment(ROOT / name, "requirements.txt", "requirements-test.txt")
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
    api = environment(ROOT / "api", "requirements.txt")
    return run([api, "-m", "tests.write_contract"], ROOT / "api")


FUNCTIONS = (up, learn, stop, doctor, clean, backup, restore, bundle, test, bench, lint, lock)
COMMANDS: dict[str, Callable[..., int]] = {each.__name__: each for each in FUNCTIONS}

if __name__ == "__main__":
    sys.exit(main())
