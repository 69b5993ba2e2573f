"""What is read from a response, and what is refused."""

import json
from pathlib import Path

import pytest
from conftest import Api, data, headed, text

from ages import AgeCounts
from api_client import ApiError
from users import fetch_counts

CONTRACT = Path(__file__).parents[2] / "contract" / "examples.json"


def error_of(api: Api) -> ApiError:
    with pytest.raises(ApiError) as caught:
        fetch_counts(api.client)
    return caught.value


def test_the_responses_of_the_contract_are_read(api: Api) -> None:
    """What the API promises in the contract's examples is what is understood here."""
    examples = json.loads(CONTRACT.read_text(encoding="utf-8"))
    seen = []
    for each in examples:
        if each["method"] == "GET" and each["path"] in ("/stats/ages", "/users/"):
            api.responders = {each["path"]: data(each["body"])}
            seen.append(fetch_counts(api.client))
    assert AgeCounts({0: 1, 30: 1}) in seen
    assert AgeCounts({0: 1, 30: 1}, from_listing=True) in seen
    assert not any(each.unreadable_rows for each in seen)


def test_unknown_fields_and_ages_without_users_are_left_out(api: Api) -> None:
    """Later versions of the API may say more."""
    body = '{"total": 4, "ages": {"0": 1, "18": 3, "30": 0, "150": 0}, "since": "today"}'
    api.responders["/stats/ages"] = text(body)
    assert fetch_counts(api.client) == AgeCounts({0: 1, 18: 3})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        '{"total": 1, "ages": {"18": 1}',
        "[" * 50_000,
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
def test_statistics_that_break_the_contract(api: Api, body: str) -> None:
    """A body that is not a whole, consistent response has one short reason."""
    api.responders["/stats/ages"] = text(body)
    error = error_of(api)
    assert error.kind == "Not understood"
    assert len(error.reason) < 250


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
        '{"age": 1e999}',
        '{"age": 3' + "0" * 400 + "}",
        '{"age": 3' + "0" * 10_000 + "}",
        '{"age": {"age": 30}}',
    ],
)
def test_a_bad_row_costs_only_itself(api: Api, row: str) -> None:
    """A row whose age cannot be read is left out and counted; the others are shown."""
    api.responders["/users/"] = text(f'{{"1": {{"name": "A", "age": 30}}, "2": {row}}}')
    assert fetch_counts(api.client) == AgeCounts({30: 1}, from_listing=True, unreadable_rows=1)


def test_broken_characters_in_a_name_do_no_harm(api: Api) -> None:
    """Bytes that are no UTF-8 are in a name, which is not shown: the ages are."""
    body = b'\xef\xbb\xbf{"1": {"name": "A\xff\xfe", "age": 30}, "2": {"age": 31}}'
    api.responders["/users/"] = headed(body, 200, {})
    assert fetch_counts(api.client).users_by_age == {30: 1, 31: 1}


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", "3", "[" * 10**5])
def test_a_listing_that_is_no_map(api: Api, body: str) -> None:
    """Without a map of users there is nothing to count."""
    api.responders["/users/"] = text(body)
    assert error_of(api).kind == "Not understood"
