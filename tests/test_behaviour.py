"""The specification: docs/behaviour.md says what the tests prove, and no two prove the same."""

from collections import Counter

import pytest
from behaviour import PAGE, SUITES, behaviour, files_of, page, promise


def test_the_page_is_fresh() -> None:
    """The page is what the tests say now."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run python3 tests/behaviour.py"


@pytest.mark.parametrize("suite", SUITES)
def test_no_two_tests_have_one_meaning(suite: str) -> None:
    """Each file has its promise, and each test of a suite a name and a docstring of its own."""
    files = files_of(suite)
    rows = [row for file in files for row in behaviour(file).items()]
    for texts in (
        [promise(file) for file in files],
        [name for name, _ in rows],
        [t for _, t in rows],
    ):
        assert "" not in texts
        assert [text for text, times in Counter(texts).items() if times > 1] == []
