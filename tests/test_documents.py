"""The commands of the documents work: they run, from top to bottom, in a new clone."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Docker, Terminal
from shell import Shell, run_document

from tools.processes import ROOT

DOCUMENTS = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/lessons/0*.md")),
]


def refuse_taken_ports(*ports: int) -> None:
    """Skip if another program uses a port of the documents."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} of the documents is in use")


@pytest.fixture
def shell(
    terminal: Callable[..., Terminal], checkout: Path, search_path: str, docker: Docker
) -> Iterator[Shell]:
    """Yield a shell in a new clone of the repository."""
    refuse_taken_ports(8000, 8501)
    yield Shell(terminal, checkout, search_path)
    docker.clean_up()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_works(document: str, shell: Shell, checkout: Path) -> None:
    """Each block runs, in order, with the stated results."""
    ran, left_out = run_document(checkout / document, shell)
    print(f"{ran} blocks ran; left out: {left_out}")

    assert ran > 0


CHANGES = [
    ("http://localhost:8000/users/7", "http://localhost:8009/users/7"),
    ("docker logs api0\n# → store", "docker logs api9\n# → store"),
    ("# → POST /users/ 201", "# → POST /users/ 200"),
]


@pytest.mark.parametrize(("was", "becomes"), CHANGES, ids=["a port", "a name", "a stated result"])
def test_a_mistake_in_a_document_is_found(
    shell: Shell, checkout: Path, was: str, becomes: str
) -> None:
    """One port, name or result changed in a lesson makes its test fail."""
    document = checkout / "docs/lessons/03-isolation.md"
    lesson = document.read_text(encoding="utf-8")
    assert was in lesson
    document.write_text(lesson.replace(was, becomes, 1), encoding="utf-8")

    with pytest.raises(AssertionError, match=r"03-isolation\.md, line \d+: "):
        run_document(document, shell)


def test_few_blocks_are_left_out() -> None:
    """At most one block in twenty is left out, each with a reason."""
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS]
    blocks = sum(text.count("```bash") for text in texts)
    left_out = [reason for text in texts for reason in re.findall(r'skip: next "(.+)"', text)]

    assert len(left_out) == sum(text.count("<!-- skip") for text in texts)
    assert len(left_out) <= blocks / 20


STORY = """
```bash
cd api
```

```bash
name=Alice
echo "created 123, $name"
# → created …, Alice
ls no-such-file
# → No such file
```

<!-- skip: next "there is no such machine" -->

```bash
ssh elsewhere
```
"""


def test_the_harness_runs_blocks(shell: Shell, tmp_path: Path) -> None:
    """Blocks share one shell; results may have gaps; it reports why a block is left out."""
    document = tmp_path / "story.md"
    document.write_text(STORY)

    assert run_document(document, shell) == (2, ["there is no such machine"])


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("created …, Alice", "created …, Bob"), ("cd api", "cd apo"), ("name=Alice", "name=Alicia")],
)
def test_the_harness_finds_mistakes(shell: Shell, tmp_path: Path, was: str, becomes: str) -> None:
    """One word changed in a stated result, a folder or a command makes the document fail."""
    document = tmp_path / "story.md"
    document.write_text(STORY.replace(was, becomes))

    with pytest.raises(AssertionError, match=r"story\.md, line \d+: "):
        run_document(document, shell)
