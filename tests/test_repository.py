"""The laws of the house: what keeps the code small and in order, and the documents true."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import service_python
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.processes import ROOT

SERVICES = ("api", "data_ingestion_simulator", "frontend")
FUNCTION_LINES, FILE_LINES, TEST_FILE_LINES = 40, 250, 400
SERVICE_LINES, SERVICE_FILES = 5_400, 36
CORE_LINES, CORE_FILES = 1_700, 14
LAB_LINES = 900
LEARN_LINES = 1_900  # of the frame, without the missions
README_WORDS = 1_300

TRACKED = [
    name
    for name in subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")[:-1]
    if (ROOT / name).exists()
]
PYTHON = [Path(name) for name in TRACKED if name.endswith(".py")]
PRODUCT = [path for path in PYTHON if "tests" not in path.parts and path.parts[0] != "benchmarks"]
SERVICE_CODE = [path for path in PRODUCT if path.parts[0] in SERVICES]
# Variables of uvicorn's own, which the API's settings read to reject an unsafe start.
SERVER_VARIABLES = {"UVICORN_HOST", "UVICORN_WORKERS", "WEB_CONCURRENCY"}
LIST_REQUIREMENTS = """
import importlib.metadata, json
found = importlib.metadata.distributions()
print(json.dumps([(one.name, one.requires or []) for one in found]))
"""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Return the first part of the name of every module that a file imports."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def lines(path: Path) -> int:
    """Return the number of lines of a file, as `wc -l` counts them."""
    return (ROOT / path).read_bytes().count(b"\n")


def modules_of(service: str) -> set[str]:
    """Return the names of a service's own modules."""
    return {path.stem for path in SERVICE_CODE if path.parts[0] == service}


def test_only_settings_read_the_environment() -> None:
    """Law 1: what can be decided from outside is all in one file of each service."""
    for path in SERVICE_CODE:
        text = (ROOT / path).read_text(encoding="utf-8")

        assert path.stem == "settings" or not re.search(r"\benviron\b|\bgetenv\b", text), path


def test_no_file_imports_an_entry_point() -> None:
    """Law 2: only the server and the tests import `main` and `app`."""
    for path in SERVICE_CODE:
        assert not imports(path) & {"main", "app"}, path


def test_the_domain_imports_no_framework() -> None:
    """Law 3: `crud.py` imports nothing of ours, and of others only two containers for data."""
    outside = imports(Path("api/crud.py")) - sys.stdlib_module_names

    assert outside == {"msgspec", "sortedcontainers"}


def test_services_share_no_code() -> None:
    """Law 4: a service imports only its own modules; no file at the root imports a service."""
    all_modules = {name for service in SERVICES for name in modules_of(service)}
    for path in PRODUCT:
        own = modules_of(path.parts[0]) if path in SERVICE_CODE else {"tools"}

        assert not imports(path) & (all_modules | {*SERVICES, "lab", "tools"}) - own, path


def test_functions_and_files_are_small() -> None:
    """Law 5: a function has at most 40 lines, a file 250, a file of tests 400."""
    for path in PYTHON:
        bound = TEST_FILE_LINES if "tests" in path.parts else FILE_LINES
        assert lines(path) <= bound, f"{path}: {lines(path)} lines"
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= FUNCTION_LINES, f"{path}: {node.name} has {length} lines"


def test_the_whole_is_small() -> None:
    """Law 6: an engineer reads the services in a day, and the README in five minutes."""
    assert len(SERVICE_CODE) <= SERVICE_FILES
    assert sum(map(lines, SERVICE_CODE)) <= SERVICE_LINES
    assert sum(lines(path) for path in PRODUCT if path.parts[0] in ("lab.py", "tools")) <= LAB_LINES
    assert sum(map(lines, Path().glob("learn/*.py"))) <= LEARN_LINES
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS


def test_the_core_is_read_in_an_afternoon() -> None:
    """Law 7: docs/reading.md lists the core, whose files import only each other and frameworks.

    The entry points, `main.py` and `app.py`, assemble the services and may import the other files.
    """
    core = [Path(row[0].strip("`")) for row in table("docs/reading.md", "## The core")]

    assert len(core) <= CORE_FILES
    assert sum(map(lines, core)) <= CORE_LINES
    for path in core:
        if path.stem not in ("main", "app"):
            ours = imports(path) & modules_of(path.parts[0])
            assert ours <= {each.stem for each in core if each.parts[0] == path.parts[0]}, path


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of a document, without its head."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = re.split(
        r"^#+ ", text[text.index(f"\n{heading}\n") + len(heading) + 1 :], flags=re.M
    )[0]
    rows = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row.split("|")] for row in rows[2:]]


@pytest.mark.parametrize("service", SERVICES)
def test_the_variables_in_the_readmes_are_those_of_the_settings(service: str) -> None:
    """Law 8: a service's table has all that its settings read, with the same defaults.

    The main README has the most important ones.
    """
    text = (ROOT / service / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'"([A-Z][A-Z_]+[A-Z][0-9]*)"', text)) - SERVER_VARIABLES
    read |= {name.upper() for name in re.findall(r"^    ([a-z_]+): Annotated\[", text, re.M)}
    own = {row[0].strip("`"): row[1] for row in table(f"{service}/README.md", "## Variables")}
    rows = table("README.md", "## Variables")
    names = {"api": "API", "data_ingestion_simulator": "Simulator", "frontend": "Dashboard"}
    common = {row[1].strip("`"): row[2] for row in rows if row[0] == names[service]}

    assert own.keys() == read
    assert common
    assert common.items() <= own.items()
    defaults = {name: default.strip("`") for name, default in own.items() if default != "unset"}
    told = json.dumps(defaults)
    program = "import json, settings, sys; told = json.loads(sys.argv[1])\n"
    program += "assert settings.read_settings(told) == settings.read_settings({})"
    subprocess.run([service_python(service), "-c", program, told], cwd=ROOT / service, check=True)


def test_the_endpoints_in_the_readmes_are_those_of_the_contract() -> None:
    """Law 9: the tables of endpoints name the calls of the OpenAPI document, and no others."""
    paths = json.loads((ROOT / "contract/openapi.json").read_text(encoding="utf-8"))["paths"]
    calls = {f"{verb.upper()} {path}" for path, verbs in paths.items() for verb in verbs}
    for document in ("README.md", "api/README.md"):
        told = {row[0].strip("`").split("?")[0] for row in table(document, "## Endpoints")}

        assert told == calls | {"GET /docs"}, document


def test_every_requirement_is_pinned_with_its_hashes() -> None:
    """A lock names exact versions and their hashes, and holds whatever its source asks for."""
    sources = [Path(name) for name in TRACKED if re.search(r"requirements[a-z-]*\.in$", name)]
    assert len(sources) >= 7
    for source in sources:
        lock = (ROOT / source.with_suffix(".txt")).read_text(encoding="utf-8")
        pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.M)[1:]
        pinned = {re.split(r"==|\[", pin)[0].lower() for pin in pins}
        asked = re.findall(
            r"^([A-Za-z0-9][\w-]*)", (ROOT / source).read_text(encoding="utf-8"), re.M
        )

        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins), source
        assert {name.lower().replace("_", "-") for name in asked} <= pinned, source


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_wanted_with_extras_is_pinned_with_and_without(service: str) -> None:
    """Else the pip of an older Python fails on the day when one of the two has a newer release."""
    pins: dict[str, set[frozenset[str]]] = {}
    for lock in (ROOT / service).glob("requirements*.txt"):
        text = lock.read_text(encoding="utf-8")
        for name, extras in re.findall(r"^([\w.-]+)(?:\[(.*)\])?==", text, re.M):
            pins.setdefault(name, set()).add(frozenset(filter(None, extras.split(","))))
    listing = subprocess.check_output([service_python(service), "-c", LIST_REQUIREMENTS], text=True)
    for name, wishes in json.loads(listing):
        with_extras = frozenset[str]().union(*pins.get(canonicalize_name(name), ()))
        for wish in map(Requirement, wishes):
            wanted = not wish.marker or any(
                wish.marker.evaluate({"extra": extra}) for extra in ("", *with_extras)
            )
            if wanted and wish.extras:
                both = {frozenset(), frozenset(wish.extras)}
                assert both <= pins[canonicalize_name(wish.name)], (name, str(wish))


def test_links_between_documents_lead_somewhere() -> None:
    """A relative link in a document names a file that is there."""
    for name in TRACKED:
        if not name.endswith(".md"):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not target.startswith("../../codespaces/"):  # of GitHub
                assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_text_files_end_their_lines_as_unix_does() -> None:
    """Whatever system a file was written on, its lines end in LF; .gitattributes keeps it so."""
    for name in TRACKED:
        if (ROOT / name).suffix in (".py", ".md", ".in", ".txt", ".toml", ".yml", ".json"):
            assert b"\r\n" not in (ROOT / name).read_bytes(), name
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text(encoding="utf-8")


def test_no_module_shadows_the_standard_library() -> None:
    """A flat module named like one of Python's own would be imported in its place."""
    assert not [path for path in PRODUCT if path.stem in sys.stdlib_module_names]
