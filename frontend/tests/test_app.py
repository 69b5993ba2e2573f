"""The page, run as Streamlit runs it, without a browser: every state and what it says."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit
from conftest import Api, data, headed, silence, until
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

APP = Path(__file__).parent.parent / "app.py"
SOME = {18: 1, 20: 2, 24: 1, 60: 4}


@pytest.fixture
def page(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """The page of a process that has just started, told where the API is as in real life."""
    monkeypatch.setenv("API_URL", api.settings.api_url)
    streamlit.cache_resource.clear()
    yield AppTest.from_file(APP, default_timeout=6)
    streamlit.cache_resource.clear()


def badge(page: AppTest) -> str:
    """Return the one line that tells the state of the page: its colour and its words."""
    (markdown,) = page.markdown
    return str(markdown.value)


def texts(page: AppTest) -> list[str]:
    return [str(each.value) for each in page.text]


def numbers(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def chart(page: AppTest) -> tuple[dict[str, int], str]:
    """Return the bars that are drawn, as users by label, and the text alternative."""
    (element,) = page.get("vega_lite_chart")
    (dataset,) = element.proto.datasets
    rows = convert_arrow_bytes_to_pandas_df(dataset.data.data)
    drawn = {age: users for age, users in zip(rows["age"], rows["users"], strict=True) if users}
    return drawn, element.proto.alt


def redraw_until(page: AppTest, words: str) -> None:
    """Redraw the page, as its timer does in a browser, until its state has these words."""
    until(lambda: words in badge(page.run()))
    assert not page.exception


def test_live(api: Api, page: AppTest) -> None:
    """With users, the page shows five numbers, the bars, the same as a table, and its source."""
    api.counts(SOME)
    page.run()
    assert not page.exception
    assert badge(page).startswith(":green-badge[")
    assert "Live, updated just now" in badge(page)
    assert numbers(page) == {
        "Users": "8",
        "Mean age": "40.2",
        "Median age": "42",
        "Youngest": "18",
        "Oldest": "60",
    }
    bars, alternative = chart(page)
    assert bars == {"15\N{EN DASH}19": 1, "20\N{EN DASH}24": 3, "60\N{EN DASH}64": 4}
    assert "from 18 to 60 years old; the fullest bin is 60\N{EN DASH}64" in alternative
    table = page.table[0].value
    assert list(table.columns) == ["Age", "Users", "Share"]
    assert ["20\N{EN DASH}24", "3", "37.5%"] in table.values.tolist()
    assert texts(page) == [f"Counted by the API at {api.settings.statistics_url}"]


def test_loading(api: Api, page: AppTest) -> None:
    """Before the first answer the page shows its outline, at once, and then what came."""
    api.answers["/stats/ages"] = silence
    page.run()
    assert "Loading" in badge(page)
    assert len(page.get("skeleton")) == 6
    assert not page.metric
    assert not page.error
    redraw_until(page, "API down")
    assert not page.get("skeleton")


def test_no_users_yet(api: Api, page: AppTest) -> None:
    """An empty API is not a fault: the page says how to fill it."""
    api.counts({})
    page.run()
    assert "Live" in badge(page)
    assert page.info[0].proto.title == "No users yet"
    assert "python main.py" in page.code[0].value
    assert f'"{api.settings.api_url}?user_id=' in page.code[1].value
    assert not page.metric
    assert not page.error


def test_down_from_the_start(api: Api, page: AppTest) -> None:
    """Without any answer there is the reason, the address tried, and what to do."""
    api.stop()
    redraw_until(page, ":red-badge[:material/cloud_off: API down]")
    assert page.error[0].proto.title == "The API does not answer"
    assert texts(page)[:2] == [
        "Nothing is listening there: connection refused.",
        f"Address tried: {api.settings.statistics_url}",
    ]
    assert texts(page)[2].startswith("What to do: Start the API")
    assert not page.metric


def test_down_after_good_data_and_back(api: Api, page: AppTest) -> None:
    """The last good numbers stay, with their age; when the API is back, so is the page."""
    api.counts(SOME)
    page.run()
    api.stop()
    redraw_until(page, "API down, last answer")
    assert numbers(page)["Users"] == "8"
    assert page.error[0].proto.title == "The API does not answer"
    api.counts({30: 1})
    api.start()
    redraw_until(page, "Live")
    assert numbers(page)["Users"] == "1"
    assert not page.error


def test_a_reloaded_page_still_shows_the_last_good_data(api: Api, page: AppTest) -> None:
    """The memory is the process's, not the visitor's: a new visitor sees it too."""
    api.counts(SOME)
    page.run()
    api.stop()
    redraw_until(page, "API down")
    visitor = AppTest.from_file(APP, default_timeout=6).run()
    assert "API down, last answer" in badge(visitor)
    assert numbers(visitor)["Users"] == "8"


def test_no_first_steps_while_the_api_is_down(api: Api, page: AppTest) -> None:
    """That there were no users is no news when nobody knows whether there are some now."""
    api.counts({})
    page.run()
    api.stop()
    redraw_until(page, "API down")
    assert not page.info
    assert not page.code


def test_an_answer_that_is_wrong(api: Api, page: AppTest) -> None:
    """An API that answers badly is told from one that does not answer."""
    api.answers["/stats/ages"] = data({"detail": "later"}, status=503)
    page.run()
    assert "API error" in badge(page)
    assert page.error[0].proto.title == "The API answers, but not with what this page can use"
    assert texts(page)[0] == "The API answered 503 Service Unavailable."


def test_a_hanging_api_takes_nothing_from_the_page(api: Api, page: AppTest) -> None:
    """While the API hangs, a redraw is quick, the numbers stay, and the control works."""
    api.counts(SOME)
    page.run()
    api.answers["/stats/ages"] = silence
    redraw_until(page, "API down, last answer")
    assert texts(page)[0] == "The API went silent for 2 seconds."
    started_at = time.monotonic()
    page.segmented_control(key="bin").set_value(10).run()
    assert time.monotonic() - started_at < 2
    assert numbers(page)["Users"] == "8"


def test_words_from_outside_are_text(api: Api, page: AppTest) -> None:
    """What an API puts into a redirect is shown as it is, not rendered."""
    trap = "/x?![a](https://example.org/a.png):red[b]<b>$c$"
    api.answers["/stats/ages"] = headed(b"", 302, {"Location": trap})
    page.run()
    assert not page.exception
    assert texts(page)[0].endswith(f"pointing to {trap}.")
    for element in (*page.markdown, *page.error, *page.caption):
        assert "example.org" not in str(element.value)


def test_an_api_with_nothing_but_the_listing(api: Api, page: AppTest) -> None:
    """The page works with any API that lists its users, and says that it counted them."""
    api.lists({"name": "A", "age": 30}, {"name": "B", "age": 41})
    page.run()
    assert "Live" in badge(page)
    assert numbers(page)["Users"] == "2"
    assert texts(page) == [f"Counted here, user by user, from the list at {api.settings.api_url}"]


@pytest.mark.parametrize(
    ("bad_rows", "sentence"),
    [(1, "1 row could not be read."), (1200, "1,200 rows could not be read.")],
)
def test_bad_rows(api: Api, page: AppTest, bad_rows: int, sentence: str) -> None:
    """Rows that cannot be read never blank the page: they are left out and counted."""
    api.lists({"name": "A", "age": 30}, *["not a user"] * bad_rows)
    page.run()
    assert not page.exception
    assert numbers(page)["Users"] == "1"
    assert texts(page)[0] == sentence


def test_names_are_nowhere(api: Api, page: AppTest) -> None:
    """The page is about ages: no name gets into it, even when the listing carries them."""
    api.lists({"name": "Canary Bird", "age": 30}, {"name": "Canary Two", "age": "old"})
    page.run()
    assert numbers(page)["Users"] == "1"
    assert "Canary" not in repr(page)


@pytest.mark.parametrize(("width_years", "bars"), [(1, 4), (2, 4), (5, 3), (10, 3)])
def test_the_bin_width(api: Api, page: AppTest, width_years: int, bars: int) -> None:
    """The control changes the bars, their text alternative and the table, and nothing else."""
    api.counts(SOME)
    page.run()
    assert page.segmented_control(key="bin").value == 5
    page.segmented_control(key="bin").set_value(width_years).run()
    assert not page.exception
    drawn, alternative = chart(page)
    assert len(drawn) == bars
    assert sum(drawn.values()) == 8
    assert f"bin width in years: {width_years}." in alternative
    assert set(drawn) <= set(page.table[0].value["Age"])
    assert numbers(page)["Users"] == "8"


@pytest.mark.parametrize(
    ("in_the_url", "width_years"), [("2", 2), ("10", 10), ("banana", 5), ("7", 5), ("", 5)]
)
def test_the_bin_width_in_the_url(
    api: Api, page: AppTest, in_the_url: str, width_years: int
) -> None:
    """A link carries the width; one that does not exist is the usual one, not an error."""
    api.counts(SOME)
    page.query_params["bin"] = in_the_url
    page.run()
    assert not page.exception
    assert f"bin width in years: {width_years}." in chart(page)[1]


def test_a_million_users_are_quick(api: Api, page: AppTest) -> None:
    """A redraw costs by the age, not by the user."""
    api.counts(dict.fromkeys(range(151), 10_000))
    page.run()
    assert numbers(page)["Users"] == "1,510,000"
    started_at = time.monotonic()
    page.run()
    assert time.monotonic() - started_at < 2
