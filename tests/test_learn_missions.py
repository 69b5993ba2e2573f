"""The missions: the starter fails, the solution passes, each mistake has its own sentence."""

import os
import re
import subprocess
import sys

import pytest

from learn import teaching
from learn.missions import Loaded, load_all, mistake
from tools.processes import ROOT

MISSIONS = load_all()
SEEDS = "20" if os.environ.get("LAB_LONG") else "1"
LOCAL = [loaded for loaded in MISSIONS if not loaded.mission.needs_docker]

each_mission = pytest.mark.parametrize("loaded", MISSIONS, ids=lambda each: each.folder.name)
each_local_mission = pytest.mark.parametrize("loaded", LOCAL, ids=lambda each: each.folder.name)


def glossary() -> set[str]:
    """Return the anchors of the glossary's terms."""
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)$", text, re.M)
    return {term.lower().replace(" ", "-") for term in terms}


def verify(loaded: Loaded, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `learn verify` for one mission."""
    words = ["learn", "verify", str(loaded.number), *options]
    command = [sys.executable, "lab.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


@each_local_mission
def test_the_law_of_the_missions(loaded: Loaded) -> None:
    """The starter fails, the solution passes, each wrong solution fails with its sentence."""
    done = verify(loaded, "--seeds", SEEDS)

    assert done.returncode == 0, done.stdout + done.stderr


@each_local_mission
def test_without_faults_every_verdict_is_void(loaded: Loaded) -> None:
    """With faults that do nothing, every verdict is VOID."""
    done = verify(loaded, "--seeds", SEEDS, "--no-op-faults")

    assert done.returncode == 0, done.stdout + done.stderr


@each_mission
def test_a_mission_has_all_that_a_learner_needs(loaded: Loaded) -> None:
    """A short story, a task, three terms of the glossary, three hints, a small starter."""
    story, _, rest = loaded.text.partition("**Your task**")
    terms = re.findall(r"glossary\.md#([\w-]+)", rest)

    assert loaded.title
    assert len(story.split()) <= 90
    assert len(set(terms)) == 3
    assert set(terms) <= glossary()
    assert len(set(loaded.mission.hints)) == 3
    assert all(loaded.mission.hints)
    assert loaded.mission.prediction.endswith("?")
    assert loaded.mission.why.endswith(".")
    assert loaded.mission.board.endswith("?")
    assert len(loaded.starter.read_text(encoding="utf-8").splitlines()) <= 60


@each_mission
def test_each_mistake_has_its_own_sentence(loaded: Loaded) -> None:
    """At least two usual mistakes, which are told apart by what the verdict says."""
    sentences = [mistake(path) for path in loaded.wrong()]

    assert len(sentences) >= 2
    assert all(what and seen for what, seen in sentences)
    assert len({seen for _, seen in sentences}) == len(sentences)


@each_mission
def test_the_real_system_is_shown(loaded: Loaded) -> None:
    """After a mission: files and lines that exist, the first of them in the core."""
    core = (ROOT / "docs/reading.md").read_text(encoding="utf-8").partition("## Three stories")[0]

    assert all(real.place() for real in loaded.mission.real)  # raises LookupError if there is none
    assert f"`{loaded.mission.real[0].path}`" in core


def test_the_instructors_page_is_fresh() -> None:
    """The part of docs/teaching.md about the missions is what their files say."""
    text = teaching.DOCUMENT.read_text(encoding="utf-8")

    assert teaching.generated(text) == text, "run python3 -m learn.teaching"
