"""What is read from an answer, and what is not believed."""

import json
from pathlib import Path

import pytest

from schema import AgeCounts, NotUnderstood, read_age_listing, read_statistics

CONTRACT = Path(__file__).parents[2] / "contract" / "examples.json"


def test_the_answers_of_the_contract_are_read() -> None:
    """What the API promises in the contract's examples is what is understood here."""
    examples = json.loads(CONTRACT.read_text(encoding="utf-8"))
    readers = {"/stats/ages": read_statistics, "/users/": read_age_listing}
    seen = [
        readers[each["path"]](json.dumps(each["body"]).encode())
        for each in examples
        if each["method"] == "GET" and each["path"] in readers
    ]
    assert AgeCounts(users_by_age={}) in seen
    assert AgeCounts(users_by_age={}, from_listing=True) in seen
    assert AgeCounts(users_by_age={0: 1, 30: 1}) in seen
    assert AgeCounts(users_by_age={0: 1, 30: 1}, from_listing=True) in seen
    assert not any(each.unreadable_rows for each in seen)


def test_statistics_are_read() -> None:
    """Ages become numbers; those that nobody has are left out, unknown fields are let be."""
    body = b'{"total": 4, "ages": {"0": 1, "18": 3, "30": 0, "150": 0}, "since": "today"}'
    assert read_statistics(body) == AgeCounts(users_by_age={0: 1, 18: 3})
    assert read_statistics(b'{"total": 0, "ages": {}}') == AgeCounts(users_by_age={})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        '{"total": 1, "ages": {"18": 1}',
        "[" * 100_000,
        "null",
        "[]",
        "{}",
        '{"total": 1}',
        '{"ages": {"18": 1}}',
        '{"total": 1, "ages": [18]}',
        '{"total": "1", "ages": {"18": 1}}',
        '{"total": 1.0, "ages": {"18": 1}}',
        '{"total": true, "ages": {"18": 1}}',
        '{"total": NaN, "ages": {"18": 1}}',
        '{"total": 1, "ages": {"18": 1.0}}',
        '{"total": 1, "ages": {"18": true}}',
        '{"total": 1, "ages": {"18": NaN}}',
        '{"total": 1, "ages": {"18": Infinity}}',
        '{"total": 1, "ages": {"18": null}}',
        '{"total": 1, "ages": {"18": "1"}}',
        '{"total": 1, "ages": {"18": 2, "19": -1}}',
        '{"total": 2, "ages": {"18": 1}}',
        '{"total": 2, "ages": {"18": 1, "18": 1}}',
        '{"total": 1, "ages": {"151": 1}}',
        '{"total": 1, "ages": {"-1": 1}}',
        '{"total": 1, "ages": {"018": 1}}',
        '{"total": 1, "ages": {" 18": 1}}',
        '{"total": 1, "ages": {"18\\n": 1}}',
        '{"total": 1, "ages": {"\\u0661\\u0668": 1}}',
        '{"total": 1, "ages": {"eighteen": 1}}',
        '{"total": 1, "ages": {"' + "9" * 400 + '": 1}}',
        '{"total": 1' + "0" * 400 + ', "ages": {"18": 1' + "0" * 400 + "}}",
        '{"total": 1, "ages": {"18": 1' + "0" * 10_000 + "}}",
    ],
)
def test_statistics_that_break_the_contract_are_refused(body: str) -> None:
    """Whatever is not a whole, consistent answer is refused in one short sentence."""
    with pytest.raises(NotUnderstood) as caught:
        read_statistics(body.encode())
    assert len(str(caught.value)) < 150


def test_listing_is_counted() -> None:
    """The users of each age are counted; names take no part."""
    rows = {"1": {"name": "A", "age": 30}, "2": {"name": "B", "age": 30}, "3": {"age": 0}}
    assert read_age_listing(json.dumps(rows).encode()) == AgeCounts(
        users_by_age={30: 2, 0: 1}, from_listing=True
    )
    assert read_age_listing(b"{}") == AgeCounts(users_by_age={}, from_listing=True)


@pytest.mark.parametrize(
    "row",
    [
        "null",
        '"user"',
        "[]",
        "30",
        "{}",
        '{"age": null}',
        '{"age": "30"}',
        '{"age": 30.0}',
        '{"age": true}',
        '{"age": -1}',
        '{"age": 151}',
        '{"age": NaN}',
        '{"age": 1e999}',
        '{"age": 3' + "0" * 400 + "}",
        '{"age": 3' + "0" * 10_000 + "}",
        '{"age": {"age": 30}}',
    ],
)
def test_a_bad_row_costs_only_itself(row: str) -> None:
    """A row whose age cannot be read is left out and counted; the others are shown."""
    body = f'{{"1": {{"name": "A", "age": 30}}, "2": {row}}}'
    assert read_age_listing(body.encode()) == AgeCounts(
        users_by_age={30: 1}, from_listing=True, unreadable_rows=1
    )


def test_broken_characters_in_a_name_do_no_harm() -> None:
    """Bytes that are no UTF-8 sit in a name, which is not shown: the ages are."""
    body = b'\xef\xbb\xbf{"1": {"name": "A\xff\xfe", "age": 30}, "2": {"age": 31}}'
    assert read_age_listing(body).users_by_age == {30: 1, 31: 1}


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "null", "3", '{"1": {"age": 30}', "[" * 10**5]
)
def test_a_listing_that_is_no_map_is_refused(body: str) -> None:
    """Without a map of users there is nothing to count."""
    with pytest.raises(NotUnderstood):
        read_age_listing(body.encode())
