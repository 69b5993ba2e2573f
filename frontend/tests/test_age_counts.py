"""What is read from a response, and what is refused."""

import json
from pathlib import Path

import pytest
from conftest import Api, data, text

from ages import AgeCounts
from api_client import ApiError
from monitor import fetch_counts

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
        if each["method"] == "GET" and each["path"] == "/stats/ages":
            api.responders = {each["path"]: data(each["body"])}
            seen.append(fetch_counts(api.client))
    assert AgeCounts({0: 1, 30: 1}) in seen


def test_unknown_fields_and_ages_without_users_are_left_out(api: Api) -> None:
    """Later versions of the API may send more."""
    body = '{"total": 4, "ages": {"0": 1, "18": 3, "30": 0, "150": 0}, "since": "today"}'
    api.responders["/stats/ages"] = text(body)
    assert fetch_counts(api.client) == AgeCounts({0: 1, 18: 3})


BAD_COUNTS = ("1.0", "true", "NaN", "Infinity", "null", '"1"', '2, "19": -1', "1" + "0" * 10_000)
BAD_AGES = ("151", "-1", "018", " 18", "18\\n", "\\u0661\\u0668", "eighteen", "9" * 400)
BAD_STATISTICS = [
    *("", "<html>", '{"total": 1, "ages": {"18": 1}', "[" * 50_000, "null", "[]", "{}"),
    *('{"total": 1}', '{"total": 1, "ages": [18]}'),
    *(f'{{"total": 1, "ages": {{"{age}": 1}}}}' for age in BAD_AGES),
    *(f'{{"total": 1, "ages": {{"18": {count}}}}}' for count in BAD_COUNTS),
    '{"total": 1' + "0" * 400 + ', "ages": {"18": 1' + "0" * 400 + "}}",
]


@pytest.mark.parametrize("body", BAD_STATISTICS)
def test_statistics_that_break_the_contract(api: Api, body: str) -> None:
    """A body that is not a whole response has one short reason."""
    api.responders["/stats/ages"] = text(body)
    error = error_of(api)
    assert error.kind == "Not understood"
    assert len(error.reason) < 250
