"""`lab.py bundle`, and an `up` from it: with tiny libraries and an index in a folder."""

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Terminal, free_port
from sabotage import ask, posix

from tools.environments import THIS_SYSTEM
from tools.machine import TABLES
from tools.processes import ROOT

pytestmark = posix
SERVER = """
import http.server, re, sys
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
print("a tiny server")
port = re.search(r"port=(\\d+)", " ".join(sys.argv))[1]
http.server.HTTPServer(("127.0.0.1", int(port)), Fine).serve_forever()
"""
# Outside of any environment: those that uv makes have no pip, which brings uv.
PYTHON = str(Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name)
# uv cannot be tiny: the script stands for the program that pip would bring.
UV = f'#!/bin/sh\nexec "{ROOT}/.venv/bin/uv" "$@"\n'


def wheel(index: Path, name: str, content: dict[str, str], tag: str = "py3-none-any") -> str:
    """Write a wheel and its page in the index; return the line that pins it."""
    folder, file = index / name, f"{name}-1.0-{tag}.whl"
    folder.mkdir(parents=True)
    about = f"{name}-1.0.dist-info"
    content = content | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in [*content, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / file, "w") as archive:
        for path, text in (content | {f"{about}/RECORD": record}).items():
            information = zipfile.ZipInfo(path)
            information.external_attr = 0o100755 << 16
            archive.writestr(information, text)
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / "index.html").write_text(f'<a href="{file}#sha256={digest}">{file}</a>')
    return f"{name}==1.0 \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def tiny(checkout: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return a checkout with tiny libraries, and the variables that say where they are."""
    index = tmp_path / "index"
    server = {"__init__.py": "", "__main__.py": SERVER}
    locks = {
        "api": wheel(index, "uvicorn", {f"uvicorn/{name}": text for name, text in server.items()}),
        "frontend": wheel(
            index, "streamlit", {f"streamlit/{name}": text for name, text in server.items()}
        ),
        "data_ingestion_simulator": wheel(index, "faker", {"faker.py": "name = 'Ada'\n"}),
        "tools": wheel(index, "uv", {"uv-1.0.data/scripts/uv": UV}),
    }
    for folder, pins in locks.items():
        (checkout / folder / "requirements.txt").write_text(pins)
    main = "import faker, time\nprint('created', faker.name)\ntime.sleep(600)\n"
    (checkout / "data_ingestion_simulator" / "main.py").write_text(main)
    base = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    return checkout, {
        **base,
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_INDEX_URL": index.as_uri(),
    }


def up(terminal: Callable[..., Terminal], checkout: Path, **variables: str) -> Terminal:
    """Start a checkout on free ports."""
    ports = [f"--api-port={free_port()}", f"--dashboard-port={free_port()}"]
    return terminal(PYTHON, "lab.py", "up", *ports, folder=checkout, **variables)


def test_a_start_without_network(
    terminal: Callable[..., Terminal], tiny: tuple[Path, dict[str, str]]
) -> None:
    """A bundle has all that `up` needs, uv included: then no index is asked."""
    checkout, variables = tiny
    done = ask(PYTHON, "lab.py", "bundle", folder=checkout, variables=variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    wheels = [path.name.split("-")[0] for path in (checkout / "bundle").glob("*/*.whl")]
    assert sorted(wheels) == ["faker", "streamlit", "uv", "uvicorn"]

    dead = variables | {"PIP_INDEX_URL": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    lab = up(terminal, checkout, **dead)
    lab.wait_for("created Ada")
    lab.wait_for("Ctrl-C stops everything")
    assert lab.count("a tiny server") == 2
    assert lab.count("installing from the bundle: done") == 3
    assert lab.stop() == 0


def test_pip_installs_where_uv_cannot_be_had(
    terminal: Callable[..., Terminal], tiny: tuple[Path, dict[str, str]]
) -> None:
    """Without a uv for this machine, pip installs: slower, and with the same checks."""
    checkout, variables = tiny
    ask(PYTHON, "lab.py", "bundle", folder=checkout, variables=variables)
    for each in (*(checkout / "bundle").glob("*/uv-*"), checkout / ".lab" / "uv"):
        each.unlink() if each.is_file() else each.rename(checkout / "away")
    lab = up(terminal, checkout, **variables)
    lab.wait_for("Ctrl-C stops everything", deadline_seconds=300)

    assert lab.count("uv: installing: not possible") == 1
    assert (checkout / "api" / ".venv" / "bin" / "pip").exists()
    assert lab.stop() == 0


@pytest.mark.parametrize("uv", ["in .lab", "nowhere"])
def test_a_file_that_is_not_the_locked_one(
    terminal: Callable[..., Terminal], tiny: tuple[Path, dict[str, str]], uv: str
) -> None:
    """uv and pip refuse a wheel with another hash; the reason is one sentence."""
    checkout, variables = tiny
    ask(PYTHON, "lab.py", "bundle", folder=checkout, variables=variables)
    lock = checkout / "api" / "requirements.txt"
    lock.write_text(lock.read_text()[:-65] + "0" * 64 + "\n")
    if uv == "nowhere":
        (checkout / ".lab" / "uv").rename(checkout / "away")
        (checkout / "tools" / "requirements.txt").write_text(
            lock.read_text().replace("uvicorn", "x")
        )
    lab = up(terminal, checkout, **variables)

    assert lab.process.wait(300) == 2
    lab.wait_for("api: installing from the bundle failed: the index has other files")


def test_what_a_bundle_can_be_for(tiny: tuple[Path, dict[str, str]]) -> None:
    """Another system gets its own folder, which does not concern this machine."""
    checkout, variables = tiny
    other = next(system for system in TABLES["systems"] if system != THIS_SYSTEM)
    bundle = [PYTHON, "lab.py", "bundle", "--system", other, "--python", "3.12"]
    done = ask(*bundle, folder=checkout, variables=variables)

    assert done.returncode == 0, done.stdout
    assert [path.name for path in (checkout / "bundle").iterdir()] == [other]
    for wrong in (["--system", "plan9"], ["--python", "2.7"]):
        done = ask(PYTHON, "lab.py", "bundle", *wrong, folder=checkout)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
