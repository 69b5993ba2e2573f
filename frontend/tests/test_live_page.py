"""The page, run as Streamlit runs it, without a browser: every state and what it says."""

import re
from typing import Any

import pytest
from conftest import (
    APP,
    Api,
    Clock,
    Responder,
    badge,
    data,
    errors,
    headed,
    html_of,
    redraw_until,
    silence,
    strip,
    texts,
    until,
)
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from api_client import TICK_SECONDS

SOME = {18: 1, 20: 2, 24: 1, 60: 4}


def headline(page: AppTest) -> str:
    """Return the text of the line with the numbers."""
    found = re.findall('<div class="headline">(.*?)</div>', html_of(page))
    return " ".join(re.sub("<[^>]*>", " ", found[0]).split()) if found else ""


def total(page: AppTest) -> str:
    """Return the number of users that the page shows, or an empty string."""
    found = re.search(r'<p class="users"><b>([\d,]+)</b>', html_of(page))
    return found[1] if found else ""


def dataset(page: AppTest, chart: int, name: str) -> Any:
    """Return the numbers of a layer of a chart as a table."""
    datasets = page.get("vega_lite_chart")[chart].proto.datasets
    (found,) = [each for each in datasets if each.name == name]
    return convert_arrow_bytes_to_pandas_df(found.data.data)


def chart(page: AppTest) -> tuple[dict[str, int], str]:
    """Return the bars that are drawn, as users by label, and the text alternative."""
    rows = dataset(page, 0, "bars")
    drawn: dict[str, int] = {}
    for age, users in zip(rows["Age"], rows["Users"], strict=True):
        if users:
            drawn[age] = drawn.get(age, 0) + users
    return drawn, page.get("vega_lite_chart")[0].proto.alt


def is_faded(page: AppTest) -> bool:
    """Return whether the numbers are shown as old ones."""
    return 'class="title faded"' in html_of(page)


def until_users(page: AppTest, users: int) -> None:
    """Redraw the page until it shows that many users."""
    until(lambda: not page.run().exception and total(page) == f"{users:,}")


def test_live(api: Api, page: AppTest) -> None:
    """With users, the page shows the numbers, the groups' shares, and the bars."""
    api.counts(SOME)
    redraw_until(page, "green: Live, updated 0 s ago")
    assert total(page) == "8"
    for words in ("Median 42", "Mean 40.2", "Range 18\u201360"):
        assert words in headline(page)
    for group in ("Children 0\u201314 0.0%", "Youth 15\u201324 50.0%", "Adults 25\u201364 50.0%"):
        assert group in headline(page)
    bars, alternative = chart(page)
    assert bars == {"15\u201319": 1, "20\u201324": 3, "60\u201364": 4}
    assert alternative == "Histogram of the users by age; bin width in years: 5."
    assert "Ages 0 to 100+: 8 users, 100.0%, mean 40.2" in texts(page)


def test_the_browser_can_tell_the_age_of_the_page(api: Api, page: AppTest, clock: Clock) -> None:
    """Badge and strip carry their age: page.js counts on when the server stops.

    Each redraw changes the HTML: so the browser knows that it has news.
    """
    api.counts(SOME)
    redraw_until(page, "Live")
    before = html_of(page)
    clock.pass_by(1)
    page.run()
    pattern = r'data-age="([\d.]+)" data-text="(.*?)" data-at="([\d.]+)"'
    (old, new) = (re.findall(pattern, html) for html in (before, html_of(page)))
    assert {text for _, text, _ in new} == {"up", "Live, updated {} ago"}
    assert not {at for _, _, at in old} & {at for _, _, at in new}


def test_no_users_yet(api: Api, page: AppTest) -> None:
    """An empty API is no error: the page says how to add users, until the API is down."""
    api.counts({})
    page.run()
    assert "Live" in badge(page)
    assert "No users yet" in html_of(page)
    assert [tab.label for tab in page.tabs] == ["Python", "Docker", "Compose", "Kubernetes"]
    assert "python main.py" in page.code[0].value
    assert any("add a user on the page Users" in text for text in texts(page))
    assert not page.expander
    api.stop()
    redraw_until(page, "API down")
    assert not page.code


def test_down_from_the_start(api: Api, page: AppTest) -> None:
    """Without any response there is one line; unfolded, the reason, the address, what to do."""
    api.stop()
    redraw_until(page, "red: API down")
    (line,) = errors(page)
    assert line.startswith("**API down**. The next request is sent within 2 seconds")
    told = texts(page)
    assert told[0] == "Connection refused: no server listens there."
    assert told[1].startswith("What to do: Start the API")
    assert told[2] == f"Address: {api.statistics_url}"
    assert not total(page)
    assert strip(page.run())["API"] == "red: down"


def test_down_after_good_data_and_back(api: Api, page: AppTest) -> None:
    """The last good numbers stay, also for a new viewer; when the API is back, so is the page."""
    api.counts(SOME)
    page.run()
    api.stop()
    for viewer in (page, AppTest.from_file(APP, default_timeout=6)):
        redraw_until(viewer, "API down, last response")
        assert total(viewer) == "8"
        assert is_faded(viewer)
        assert errors(viewer)
    api.counts({30: 1})
    api.start()
    redraw_until(page, "Live")
    assert not is_faded(page)
    assert total(page) == "1"
    assert not page.expander


def test_the_page_says_how_long_the_api_asks_to_wait(api: Api, page: AppTest) -> None:
    """After a 503 with Retry-After no request is promised before its time."""
    api.counts(SOME)
    page.run()
    api.responders["/stats/ages"] = headed(b"", 503, {"Retry-After": "30"})
    redraw_until(page, "API error")
    assert "within 30 seconds" in errors(page)[0]


@pytest.mark.parametrize(("width_years", "bars"), [(1, 4), (2, 4), (10, 3)])
def test_the_bin_width(api: Api, page: AppTest, width_years: int, bars: int) -> None:
    """The control changes the bars and their text alternative, and nothing else."""
    api.counts(SOME)
    page.run()
    page.segmented_control(key="bin").set_value(width_years).run()
    assert not page.exception
    drawn, alternative = chart(page)
    assert (len(drawn), sum(drawn.values())) == (bars, 8)
    assert f"bin width in years: {width_years}." in alternative
    assert total(page) == "8"


@pytest.mark.parametrize(("first", "last"), [("20", "40"), ("40", "20")])
def test_a_link_carries_the_choices(api: Api, page: AppTest, first: str, last: str) -> None:
    """The address has the refresh time, the bin width and the ages, in any order."""
    api.counts(SOME)
    page.query_params["refresh"] = "30 s"
    page.query_params["bin"] = "10"
    page.query_params["ages"] = [first, last]
    page.run()
    assert page.segmented_control(key="refresh").value == 30.0
    assert "bin width in years: 10." in chart(page)[1]
    assert any(text.startswith("Ages 20 to 40: 3 users") for text in texts(page))


def test_a_link_with_a_wrong_choice(api: Api, page: AppTest) -> None:
    """A bin width that does not exist is the usual one, not an error."""
    api.counts(SOME)
    page.query_params["bin"] = "banana"
    page.run()
    assert not page.exception
    assert "bin width in years: 5." in chart(page)[1]


def test_the_numbers_of_a_chart(api: Api, page: AppTest) -> None:
    """What the bars show is also a table and a CSV file, which are made when they are opened."""
    api.counts(SOME)
    page.run()
    assert not page.table
    assert not page.download_button
    page.session_state["numbers Ages"] = True
    page.run()
    shown = page.table[0].value.values.tolist()
    assert ["15\u201319", "Youth", 1, "12.5%"] in shown
    assert ["20\u201324", "Youth", 3, "37.5%"] in shown
    assert page.download_button[0].label == "CSV"


def test_the_net_change(api: Api, page: AppTest, clock: Clock) -> None:
    """With two responses there is a change to show, as a number and as a bar."""
    api.counts({30: 10})
    page.run()
    assert len(dataset(page, 1, "bars")) == 0
    api.counts({30: 25})
    clock.pass_by(30)
    until_users(page, 25)
    assert "+30/min" in headline(page)
    assert len(page.get("vega_lite_chart")) == 2
    assert dataset(page, 1, "bars")["Net change"].tolist() == [15]
    assert "+15 users in 15 minutes" in texts(page)


def test_what_happened_is_marked(api: Api, page: AppTest, clock: Clock) -> None:
    """An outage is a span with words on the net change."""
    api.counts({30: 900})
    page.run()
    api.stop()
    redraw_until(page, "API down")
    clock.pass_by(10)
    api.counts({30: 903})
    api.start()
    until_users(page, 903)
    marks = dataset(page, 1, "events")
    assert re.fullmatch(r"API down \d+ s", marks["Event"][0])
    assert marks["From"][0] < marks["To"][0]
    assert "+3 users in 15 minutes" in texts(page)


def test_pause_holds_what_is_seen(api: Api, page: AppTest, clock: Clock) -> None:
    """A paused page keeps its numbers until it resumes or refreshes; the strip stays live."""
    api.counts({30: 1})
    page.run()
    page.segmented_control(key="refresh").set_value("Pause").run()
    assert "blue: Paused, updated" in badge(page)
    for users in (2, 3):
        api.counts({30: users})
        clock.pass_by(TICK_SECONDS)
        page.run()
        until(lambda: bool(page.run()) and api.paths.count("/stats/ages") > users)  # noqa: B023
        assert total(page) == str(users - 1)
        page.segmented_control(key="refresh").set_value("2 s").run()
        until_users(page, users)
        page.segmented_control(key="refresh").set_value("Pause").run()
        assert "Paused, updated" in badge(page)
    api.stop()
    page.segmented_control(key="refresh").set_value("2 s")
    redraw_until(page, "API down")
    assert "sent within 2 seconds" in errors(page)[0]
    page.segmented_control(key="refresh").set_value("Pause").run()
    assert "This page is paused" in errors(page)[0]


def test_selected_ages(api: Api, page: AppTest) -> None:
    """The slider selects ages: the page shows their sum, and other bars are pale."""
    api.counts(SOME)
    page.run()
    page.slider(key="ages").set_value((20, 30)).run()
    assert "Ages 20 to 30: 3 users, 37.5%, mean 21.3" in texts(page)
    rows = dataset(page, 0, "bars")
    pale = dict(zip(rows["from"], rows["opacity"], strict=True))
    assert (pale[20], pale[60]) == (1.0, 0.3)
    page.slider(key="ages").set_value((90, 99)).run()
    assert "Ages 90 to 99: 0 users, 0.0%" in texts(page)


def test_all_who_are_over_99_share_a_bar(api: Api, page: AppTest) -> None:
    """The last bar and the end of the slider mean 100 years and more."""
    api.counts({30: 1, 100: 2, 150: 3})
    page.run()
    assert chart(page)[0] == {"30\u201334": 1, "100+": 5}
    page.slider(key="ages").set_value((100, 100)).run()
    assert "Ages 100 to 100+: 5 users, 83.3%, mean 130.0" in texts(page)


@pytest.mark.parametrize("ages", [["20", "150"], ["x"]])
def test_a_link_with_ages_that_do_not_exist(api: Api, page: AppTest, ages: list[str]) -> None:
    """They are cut, or ignored; they are no error."""
    api.counts(SOME)
    page.query_params["ages"] = ages
    page.run()
    assert not page.exception
    assert any(text.startswith(("Ages 0 to 100+", "Ages 20 to 100+")) for text in texts(page))


@pytest.mark.parametrize(
    ("responder", "state"),
    [
        (data({"detail": "**No** :red[entry]"}, status=403), "API refuses"),
        (data({"total": 1}), "Not understood"),
        (headed(b"", 302, {"Location": "**No** :red[entry]"}), "API error"),
    ],
)
def test_kinds_of_bad_responses(api: Api, page: AppTest, responder: Responder, state: str) -> None:
    """Each has its badge; a message or an address of the API is plain text, never Markdown."""
    api.responders["/stats/ages"] = responder
    page.run()
    assert state in badge(page)
    assert errors(page)[0].startswith(f"**{state}**")
    shown = any("**No** :red[entry]" in text for text in texts(page))
    assert shown == (state != "Not understood")
    assert not any("entry" in str(each.value) for each in page.markdown)
    assert "entry" not in errors(page)[0]


def test_stale(api: Api, page: AppTest, clock: Clock) -> None:
    """While a new response is late, the old one is called stale."""
    api.counts(SOME)
    page.run()
    api.responders["/stats/ages"] = silence
    clock.pass_by(60)
    assert "Stale, last response 60 s ago" in badge(page.run())
    assert is_faded(page)
    assert total(page) == "8"


def test_presentation(api: Api, page: AppTest) -> None:
    """With `?view=tv` there are the numbers and the charts, and no links to other pages."""
    api.counts(SOME)
    page.query_params["view"] = "tv"
    page.run()
    assert total(page) == "8"
    assert len(page.get("vega_lite_chart")) == 2


def test_new_numbers_leave_the_charts_in_place(api: Api, page: AppTest, clock: Clock) -> None:
    """The browser builds a chart again when its specification or its text alternative changes."""

    def built() -> list[tuple[str, str]]:
        return [(each.proto.spec, each.proto.alt) for each in page.get("vega_lite_chart")]

    api.counts({30: 10})
    page.run()
    drawn = []
    for users_by_age in ({30: 10, 20: 3}, {5: 1_000, 30: 9, 20: 3, 90: 2}):
        clock.pass_by(10)
        api.counts(users_by_age)
        until_users(page, sum(users_by_age.values()))
        drawn.append(built())
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("viewers", [1, 20])
def test_many_viewers_cost_what_one_costs(
    api: Api, page: AppTest, clock: Clock, viewers: int
) -> None:
    """The API is asked at most once in each tick, by one viewer and by twenty."""
    api.counts(SOME)
    visitors = [page] + [AppTest.from_file(APP, default_timeout=6) for _ in range(viewers - 1)]
    for tick in range(4):
        for visitor in visitors:
            assert "Live, updated" in badge(visitor.run())
        assert api.paths.count("/stats/ages") == 1 + tick
        clock.pass_by(TICK_SECONDS)
