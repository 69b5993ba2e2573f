"""How `lab.py` installs: broken environments are made again, and failures say what helps."""

import os
import re
import sys
from pathlib import Path

import pytest
from sabotage import ask, fake_uv, free_ports, posix, without_privileges

from tools.environments import environment
from tools.processes import ROOT, LabError

UV = str(ROOT / ".venv" / "bin")


@posix
@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("failed to write: No space left on device (os error 28)", "the disk is full"),
        ("[Errno 122] Disk quota exceeded: '/home/a/.venv'", "the disk is full"),
        ("failed to create directory: Read-only file system (os error 30)", "is read-only"),
        ("PermissionError: [Errno 13] Permission denied: '/x/.venv'", "another user"),
        ("PermissionError: [WinError 5] Access is denied", "another user"),
        ("Error: Command '[...]' returned non-zero: ensurepip is not available", "python3-venv"),
        ("SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "PIP_CERT"),
        ("invalid peer certificate: UnknownIssuer", "PIP_CERT"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError: "
            "Failed to establish a new connection: [Errno -3] Temporary failure in name "
            "resolution'\nERROR: No matching distribution found for faker==40.1.0",
            "no package index can be reached",
        ),
        ("error: Failed to fetch: `https://pypi.org/simple/faker/`\n  dns error", "HTTPS_PROXY"),
        ("ProxyError('Cannot connect to proxy.', timeout('timed out'))", "HTTPS_PROXY"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES: Hash mismatch for `faker`", "locked"),
        ("ERROR: No matching distribution found for pyarrow==24.0.0", "64-bit Python"),
        ("pyarrow==24.0.0 has no wheels with a matching Python ABI tag", "64-bit Python"),
    ],
)
def test_a_failed_installation_says_what_helps(
    tmp_path: Path, checkout: Path, output: str, sentence: str
) -> None:
    """The reason is one line that says what to do; the exit code is 2."""
    (tmp_path / "output").write_text(output)
    path = fake_uv(tmp_path, f"cat {tmp_path / 'output'} >&2; exit 1")
    up = [sys.executable, "lab.py", "up", *free_ports()]
    ended = ask(*up, folder=checkout, variables={"PATH": path})

    assert (ended.returncode, ended.stderr) == (2, "")
    assert sentence in ended.stdout
    assert len(ended.stdout.splitlines()) == 1


def break_environment(how: str, venv: Path) -> None:
    """Do to a virtual environment what other users, updates and interrupted copies do."""
    python = venv / "bin" / "python"
    if how == "moved Python":
        python.unlink()
        python.symlink_to("/nowhere/python3")
    elif how == "Python for another processor":
        python.unlink()
        python.write_bytes(b"\x7fELF\0\0\0")
        python.chmod(0o755)
    elif how == "Python that may not be run":
        python.unlink()
        python.write_text("")
    elif how == "no Python":
        python.unlink()
    elif how == "no pyvenv.cfg":
        (venv / "pyvenv.cfg").unlink()
    elif how == "damaged pyvenv.cfg":
        (venv / "pyvenv.cfg").write_bytes(b"\xff\xfe\0version = x")
    elif how == "another version":
        (library,) = (venv / "lib").iterdir()
        library.rename(library.with_name("python3.10"))
    elif how == "damaged stamp":
        (stamp,) = venv.glob("[Ll]ib/**/lab_locks.py")
        stamp.write_bytes(b"\xff\xfe")
    else:
        venv.rename(venv.with_name("elsewhere"))
        if how == "a file":
            venv.write_text("")
        elif how == "a broken link":
            venv.symlink_to("nothing")
        elif how == "an empty folder":
            venv.mkdir()


BROKEN = """moved Python, Python for another processor, Python that may not be run, no Python,
no pyvenv.cfg, damaged pyvenv.cfg, another version, damaged stamp, a file, a broken link,
an empty folder"""


@posix
@pytest.mark.parametrize("how", re.split(r",\s", BROKEN))
def test_a_broken_environment_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever has happened to `.venv`, the next start gives a Python that runs."""
    monkeypatch.setenv("PATH", UV + os.pathsep + os.environ["PATH"])
    (tmp_path / "requirements.txt").write_text("# no packages\n")
    environment(tmp_path, "requirements.txt")
    break_environment(how, tmp_path / ".venv")

    python = environment(tmp_path, "requirements.txt")
    assert ask(python, "-c", "print('runs')").stdout == "runs\n"


def test_an_interrupted_installation_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment whose update failed does not count as installed, with the old lock either."""
    monkeypatch.setenv("PATH", UV + os.pathsep + os.environ["PATH"])
    lock = tmp_path / "requirements.txt"
    lock.write_text("# no packages\n")
    environment(tmp_path, lock.name)
    lock.write_text("./nothing.whl\n")
    with pytest.raises(LabError, match="installing failed"):
        environment(tmp_path, lock.name)

    assert not [*(tmp_path / ".venv").glob("[Ll]ib/**/lab_locks.py")]


@posix
def test_a_checkout_that_cannot_be_written(tmp_path: Path, checkout: Path) -> None:
    """Where no environment can be made, one sentence says so, and what helps."""
    path = fake_uv(tmp_path, 'exec mkdir "$4"')
    (checkout / "api").chmod(0o555)
    up = [sys.executable, "lab.py", "up", *free_ports()]
    ended = ask(*up, folder=checkout, variables={"PATH": path}, preexec_fn=without_privileges)
    (checkout / "api").chmod(0o755)

    assert (ended.returncode, ended.stderr) == (2, "")
    assert "a file belongs to another user, or is protected" in ended.stdout
    assert len(ended.stdout.splitlines()) == 1
