"""The page, run as Streamlit runs it, without a browser: every state and what it says."""

import pytest
from conftest import (
    APP,
    DEADLINE_SECONDS,
    Api,
    Clock,
    Responder,
    badge,
    data,
    headed,
    redraw_until,
    silence,
    texts,
    until,
)
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

import widgets
from api_client import TICK_SECONDS

SOME = {18: 1, 20: 2, 24: 1, 60: 4}


def numbers(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def chart(page: AppTest) -> tuple[dict[str, int], str]:
    """Return the bars that are drawn, as users by label, and the text alternative."""
    element = page.get("vega_lite_chart")[0]
    dataset = next(each for each in element.proto.datasets if each.name == "rows")
    rows = convert_arrow_bytes_to_pandas_df(dataset.data.data)
    drawn = {age: users for age, users in zip(rows["Age"], rows["height"], strict=True) if users}
    return drawn, element.proto.alt


def is_faded(page: AppTest) -> bool:
    """Return whether the numbers are shown as old ones."""
    (style,) = [each.proto.body for each in page.get("html") if "<style>" in each.proto.body]
    return "grayscale" in style


def until_users(page: AppTest, total: int) -> None:
    """Redraw the page until it shows that many users."""
    until(lambda: not page.run().exception and numbers(page).get("Users") == f"{total:,}")


def test_live(api: Api, page: AppTest) -> None:
    """With users, the page shows five numbers, the bars, and how many users are selected."""
    api.counts(SOME)
    redraw_until(page, "Live, updated just now")
    assert badge(page).startswith(":green-badge[")
    assert numbers(page) == {
        "Users": "8",
        "Mean age": "40.2",
        "Median age": "42",
        "Youngest": "18",
        "Oldest": "60",
    }
    bars, alternative = chart(page)
    assert bars == {"15\N{EN DASH}19": 1, "20\N{EN DASH}24": 3, "60\N{EN DASH}64": 4}
    assert alternative == "Histogram of the users by age; bin width in years: 5."
    assert "From 0 to 99: 8 users, 100.0% of all, mean age 40.2." in texts(page)


def test_no_users_yet(api: Api, page: AppTest) -> None:
    """An empty API is no error: the page says how to add users, until the API is down."""
    api.counts({})
    page.run()
    assert "Live" in badge(page)
    assert page.info[0].proto.title == "No users yet"
    assert "python main.py" in page.code[0].value
    assert not page.metric
    assert not page.error
    api.stop()
    redraw_until(page, "API down")
    assert not page.info
    assert not page.code


def test_down_from_the_start(api: Api, page: AppTest) -> None:
    """Without any response there is the reason, the address, and what to do."""
    api.stop()
    redraw_until(page, ":red-badge[:material/cloud_off: API down]")
    assert page.error[0].proto.title == "API down"
    assert texts(page)[:3] == [
        "Connection refused: no server listens there.",
        texts(page)[1],
        f"Address: {api.statistics_url}",
    ]
    assert texts(page)[1].startswith("What to do: Start the API")
    (details,) = page.expander
    assert [each.value for each in details.text] == texts(page)[2:3]
    assert not page.metric


def test_down_after_good_data_and_back(api: Api, page: AppTest) -> None:
    """The last good numbers stay, also for a new viewer; when the API is back, so is the page."""
    api.counts(SOME)
    page.run()
    api.stop()
    for viewer in (page, AppTest.from_file(APP, default_timeout=6)):
        redraw_until(viewer, "API down, last response")
        assert numbers(viewer)["Users"] == "8"
        assert is_faded(viewer)
        assert viewer.error[0].proto.title == "API down"
    api.counts({30: 1})
    api.start()
    redraw_until(page, "Live")
    assert not is_faded(page)
    assert numbers(page)["Users"] == "1"
    assert not page.error


def test_an_api_that_only_lists_its_users(api: Api, page: AppTest) -> None:
    """The page works with any API that lists its users, says so, and shows no name."""
    api.lists({"name": "Canary Bird", "age": 30}, {"name": "Canary Two", "age": "old"})
    page.run()
    assert "Live" in badge(page)
    assert numbers(page)["Users"] == "1"
    assert texts(page)[-2:] == [
        f"The dashboard counted each user in the list at {api.settings.api_url}",
        "1 row could not be read.",
    ]
    assert "Canary" not in repr(page)


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
    assert numbers(page)["Users"] == "8"


@pytest.mark.parametrize(("first", "last"), [("20", "40"), ("40", "20")])
def test_a_link_carries_the_choices(api: Api, page: AppTest, first: str, last: str) -> None:
    """The address has the refresh time, the bin width and the ages, in any order."""
    api.counts(SOME)
    page.query_params["refresh"] = "30 s"
    page.query_params["bin"] = "10"
    page.query_params["ages"] = [first, last]
    page.run()
    assert page.segmented_control(key="refresh").value == "30 s"
    assert "bin width in years: 10." in chart(page)[1]
    assert any(text.startswith("From 20 to 40: 3 users") for text in texts(page))


def test_a_link_with_a_wrong_choice(api: Api, page: AppTest) -> None:
    """A bin width that does not exist is the usual one, not an error."""
    api.counts(SOME)
    page.query_params["bin"] = "banana"
    page.run()
    assert not page.exception
    assert "bin width in years: 5." in chart(page)[1]


def test_the_numbers_as_a_table(api: Api, page: AppTest) -> None:
    """What the bars show is also a table, which is made when it is opened."""
    api.counts(SOME)
    page.run()
    assert not page.table
    page.session_state["table Users"] = True
    page.run()
    assert page.table[0].value.values.tolist()[:2] == [
        ["15\N{EN DASH}19", "1", "12.5%"],
        ["20\N{EN DASH}24", "3", "37.5%"],
    ]


def test_the_net_change(api: Api, page: AppTest) -> None:
    """With two responses there is a change to show, as a number and as a bar."""
    api.counts({30: 10})
    page.run()
    assert "A bar appears here after two responses." in texts(page)
    api.counts({30: 25})
    until(lambda: numbers(page.run())["Users"] == "25")
    assert page.metric[0].delta.startswith("+15 in ")
    assert len(page.get("vega_lite_chart")) == 2
    assert any("from all clients: +15." in text for text in texts(page))


def test_pause_holds_what_is_seen(api: Api, page: AppTest, clock: Clock) -> None:
    """A paused page sends no request and keeps its numbers, until it resumes or refreshes.

    With an error it does not promise a request.
    """
    api.counts({30: 1})
    page.run()
    page.segmented_control(key="refresh").set_value("Pause").run()
    assert ":blue-badge[:material/pause: Paused, updated" in badge(page)
    asked = len(api.paths)
    for users in (2, 3):
        api.counts({30: users})
        clock.pass_by(TICK_SECONDS)
        page.run()
        assert (numbers(page)["Users"], len(api.paths)) == (str(users - 1), asked + users - 2)
        (button,) = [each for each in page.button if each.label == "Refresh now"]
        button.click().run()
        assert "Paused, updated just now" in badge(page)
    api.stop()
    page.segmented_control(key="refresh").set_value("2 s")
    redraw_until(page, "API down")
    assert "sent within 2 seconds" in page.error[0].value
    page.segmented_control(key="refresh").set_value("Pause").run()
    assert "when you resume or refresh" in page.error[0].value


def test_selected_ages(api: Api, page: AppTest) -> None:
    """The slider selects ages: the page shows their sum, and other bars are pale."""
    api.counts(SOME)
    page.run()
    page.slider(key="ages").set_value((20, 30)).run()
    assert "From 20 to 30: 3 users, 37.5% of all, mean age 21.3." in texts(page)
    datasets = page.get("vega_lite_chart")[0].proto.datasets
    (bars,) = [each for each in datasets if each.name == "rows"]
    rows = convert_arrow_bytes_to_pandas_df(bars.data.data)
    pale = dict(zip(rows["from"], rows["opacity"], strict=True))
    assert (pale[20], pale[60]) == (1.0, 0.3)
    page.slider(key="ages").set_value((90, 99)).run()
    assert "From 90 to 99: 0 users, 0.0% of all." in texts(page)


@pytest.mark.parametrize(("oldest", "end"), [(99, 99), (100, 150)])
def test_slider_and_axis_have_one_scale(api: Api, page: AppTest, oldest: int, end: int) -> None:
    """Both are from 0 to 99, and longer only for those who are older."""
    api.counts({30: 1, oldest: 1})
    page.run()
    assert (page.slider(key="ages").min, page.slider(key="ages").max) == (0, end)
    assert f'"domain": [0, {end + 1}]' in page.get("vega_lite_chart")[0].proto.spec


def test_the_oldest_are_deleted(
    api: Api, page: AppTest, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no user over 99 is left, the scale and the selection end at 99."""
    monkeypatch.setattr(widgets, "WAIT_SECONDS", DEADLINE_SECONDS)
    api.counts(SOME | {120: 1})
    page.query_params["ages"] = ["20", "150"]
    page.run()
    assert page.slider(key="ages").value == (20, 150)
    api.counts(SOME)
    clock.pass_by(60)
    page.run()
    assert not page.exception
    assert page.slider(key="ages").value == (0, 99)


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
    assert page.error[0].proto.title == state
    shown = any("**No** :red[entry]" in text for text in texts(page))
    assert shown == (state != "Not understood")
    assert not any("entry" in str(each.value) for each in (*page.markdown, *page.error))


def test_stale(api: Api, page: AppTest, clock: Clock) -> None:
    """While a new response is late, the old one is called stale."""
    api.counts(SOME)
    page.run()
    api.responders["/stats/ages"] = silence
    clock.pass_by(60)
    assert "Stale, last response 1 min ago" in badge(page.run())
    assert is_faded(page)
    assert numbers(page)["Users"] == "8"


def test_trends(api: Api, page: AppTest, clock: Clock) -> None:
    """Each card shows the trend of its number; times without users have no mean."""
    populations: list[dict[int, int]] = [{}, {30: 2}, {30: 2, 50: 2}]
    for counts in populations:
        clock.pass_by(10)
        api.counts(counts)
        if counts:
            until_users(page, sum(counts.values()))
        else:
            until(lambda: bool(page.run().info))
    areas = [each.proto.body for each in page.get("html") if "polygon" in each.proto.body]
    assert len(areas) == 5
    assert all('aria-hidden="true"' in area for area in areas)
    assert all("90.0%" in area and "10.0%" in area for area in areas[:2])  # they rise


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
        assert api.paths == ["/stats/ages"] * (1 + tick)
        clock.pass_by(TICK_SECONDS)
