"""The live page: how old the users are, as it is now."""

import math
from functools import partial

import feed
from ages import Summary, ages_under, between, histogram, summarise
from charts import BRUSH, histogram_chart, rate_chart
from chosen import Chosen, in_order
from feed import HISTORY_SECONDS, TICK_SECONDS, Latest, is_due
from history import change, intervals, sampled
from parts import (
    shared_feed,
    show_bar,
    show_card,
    show_fault,
    show_table,
    show_title,
    show_trend,
    st,
    totals,
)
from schema import MAX_AGE_YEARS, AgeCounts
from settings import Settings
from words import asked_again, how_many, state, time_ago

REFRESH_SECONDS = {"Off": math.inf, "2 s": 2.0, "5 s": 5.0, "30 s": 30.0}
BIN_WIDTHS_YEARS = (1, 2, 5, 10)
DEFAULT_BIN_WIDTH_YEARS = 5
USUAL_LAST_AGE = 99  # where the axis ends, unless somebody is older
CARD_HEIGHT_PX = 168
CHART_HEIGHT_PX = 360
MINUTE_SECONDS = 60
WAIT_SECONDS = 0.5  # how long a redraw waits for a new answer before it shows what is known
# Each chart has its own table below it, so it needs no tools that show one, or copy it.
STYLE = ".st-key-numbers [data-testid=stElementToolbar]{display:none}"
# Of numbers that are not those of now, what is large is faded: small letters must be read still.
FADED = (
    ".st-key-numbers{filter:grayscale(1)}.st-key-numbers [data-testid=stMetricValue]{opacity:.6}"
)


@st.fragment(run_every=TICK_SECONDS)
def live_page(settings: Settings) -> None:
    """Show the ages of the users. It redraws itself every TICK_SECONDS, without a click."""
    with show_bar():
        title = st.container(width="content")
        every_seconds = show_refresh_controls()
    latest = newest(settings, every_seconds)
    counts = latest.answer
    shown = state(latest, every_seconds, paused=st.session_state.paused)
    old = shown.colour in ("orange", "red")
    with title:
        show_title("Ages of the users", shown)
        st.html(f"<style>{STYLE}{FADED if old else ''}</style>")
    with st.container():  # what stands below what comes and goes stays where it is
        if latest.fault:
            show_fault(latest.fault, asked_again(every_seconds))
        elif counts is None:
            show_skeleton()
    if counts is None:
        return
    if counts.summary:
        with st.container(key="numbers"):
            show_cards(latest, counts.summary, old)
            show_histogram(counts.users_by_age, counts.summary)
            show_rate(latest)
    elif not latest.fault:
        show_first_steps()
    if counts.unreadable_rows:
        st.text(f"{how_many(counts.unreadable_rows, 'row')} could not be read.")
    if counts.from_listing:
        st.text(f"Counted here, user by user, from the list at {settings.api_url}")
    else:
        st.text(f"Counted by the API at {settings.statistics_url}")


def show_refresh_controls() -> float:
    """Return how often the visitor wants news, in seconds; infinite for never."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        paused = st.toggle("Pause", key="paused", bind="query-params")
        label = st.segmented_control(
            "Refresh",
            list(REFRESH_SECONDS),
            default="2 s",
            required=True,
            key="refresh",
            bind="query-params",  # so that a link to the page carries it
            label_visibility="collapsed",
        )
        every_seconds = math.inf if paused else REFRESH_SECONDS[label or "2 s"]
        if math.isinf(every_seconds) and st.button("Refresh now", icon=":material/refresh:"):
            st.session_state.pop("latest", None)
    return every_seconds


def newest(settings: Settings, every_seconds: float) -> Latest[AgeCounts]:
    """Return what this visitor sees: what they saw last, until it is time for something newer."""
    seen: Latest[AgeCounts] | None = st.session_state.get("latest")
    if seen is None:  # whoever comes sees how it is now
        seen = shared_feed(settings).latest(WAIT_SECONDS)
    elif seen.pending or is_due(seen.seen_at, every_seconds):
        seen = shared_feed(settings).latest(WAIT_SECONDS, every_seconds)
    st.session_state.latest = seen
    return seen


def show_skeleton() -> None:
    """Draw the outline of what is to come."""
    cards = st.grid(6, min_column_width=150)
    cards.cell(column_span=2).skeleton(height=CARD_HEIGHT_PX)
    for _ in range(4):
        cards.skeleton(height=CARD_HEIGHT_PX)
    st.skeleton(height=CHART_HEIGHT_PX)


def show_first_steps() -> None:
    """Say what fills an empty page."""
    st.info("The API answers, and it has no users. Add some:", title="No users yet")
    st.code("cd data_ingestion_simulator\npython main.py", language=None)
    st.text("Or add one by hand: on the page Users, choose Add a user.")


def show_cards(latest: Latest[AgeCounts], summary: Summary, old: bool) -> None:
    """Draw a card for each number; the first takes two columns, so rows are full on a phone too.

    What was gained is no good news while the numbers are old.
    """
    past = [(at, each.summary) for at, each in sampled(latest.history) if each.summary]
    changed = change(totals(latest), MINUTE_SECONDS)
    began = "first answer" if len(latest.history) == 1 else "began anew"
    cards = st.grid(6, min_column_width=150)
    with cards.cell(column_span=2), show_card():
        st.metric(
            "Users",
            f"{summary.total:,}",
            delta=f"{changed[0]:+,} in {changed[1]:.0f} s" if changed else began,
            delta_color="normal" if changed and changed[0] and not old else "off",
            delta_arrow="auto" if changed and changed[0] else "off",
        )
        show_trend(sampled(totals(latest)))  # with the times when there was nobody
    for label, value, trend in (
        ("Mean age", f"{summary.mean:.1f}", [(at, each.mean) for at, each in past]),
        ("Median age", f"{summary.median:g}", [(at, each.median) for at, each in past]),
        ("Youngest", f"{summary.youngest}", [(at, each.youngest) for at, each in past]),
        ("Oldest", f"{summary.oldest}", [(at, each.oldest) for at, each in past]),
    ):
        with cards, show_card():
            st.metric(label, value)
            show_trend(trend)


def show_histogram(users_by_age: dict[int, int], summary: Summary) -> None:
    """Draw the bars and their controls, what the chosen ages come to, and the same as a table."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            width_years = (
                st.segmented_control(
                    "Bin width in years",
                    BIN_WIDTHS_YEARS,
                    default=DEFAULT_BIN_WIDTH_YEARS,
                    required=True,
                    key="bin",
                    bind="query-params",
                )
                or DEFAULT_BIN_WIDTH_YEARS
            )
            unit = st.segmented_control(
                "Bars show",
                ("Users", "Percent"),
                default="Users",
                required=True,
                key="bars",
                bind="query-params",
            )
            with_median = st.toggle("Median line", value=True, key="median", bind="query-params")
        bins = histogram(users_by_age, width_years)
        fullest = max(bins, key=lambda each: each.count)
        last_age = USUAL_LAST_AGE if summary.oldest <= USUAL_LAST_AGE else MAX_AGE_YEARS
        chosen = chosen_ages(last_age)
        st.vega_lite_chart(
            histogram_chart(
                bins,
                summary.median if with_median else None,
                unit == "Percent",
                in_order(st.session_state.get("ages", chosen.ages)),
                last_age,
            ),
            key=histogram_key(chosen),
            height=CHART_HEIGHT_PX,
            on_select=partial(follow_brush, width_years, last_age),
            # No numbers, with which the chart would be built anew: they are in the line below.
            alt=f"Histogram of the users by age; bin width in years: {width_years}.",
        )
        st.text(
            f"The fullest bin is {fullest.label}: {how_many(fullest.count, 'user')},"
            f" {fullest.share:.1%} of all."
        )
        show_chosen_ages(users_by_age, summary.total, last_age)
    show_table(
        "The same numbers as a table",
        lambda: {
            "Age": [each.label for each in bins],
            "Users": [f"{each.count:,}" for each in bins],
            "Share": [f"{each.share:.1%}" for each in bins],
        },
    )


def chosen_ages(last_age: int) -> Chosen:
    """Return which ages this visitor has chosen: at first all, and none beyond the last."""
    chosen: Chosen = st.session_state.setdefault("chosen", Chosen((0, last_age)))
    first, last = in_order(st.session_state.get("ages", chosen.ages))
    if last > last_age:  # whoever was that old has left
        chosen.ages = st.session_state.ages = first if first <= last_age else 0, last_age
    return chosen


def histogram_key(chosen: Chosen) -> str:
    """Return the chart's key; a new one draws it anew, without the brush that was on it."""
    return f"histogram {chosen.brushes}"


def follow_brush(width_years: int, last_age: int) -> None:
    """Move the slider to the bins that were brushed; without a brush, to all ages."""
    chosen = chosen_ages(last_age)
    span = st.session_state[histogram_key(chosen)].selection.get(BRUSH, {}).get("from")
    first, last = (ages_under(span[0], span[1], width_years) if span else None) or (0, last_age)
    brushed = max(first, 0), min(last, last_age)
    chosen.brush(brushed, st.session_state.get("ages", chosen.ages), feed.now())
    st.session_state.ages = brushed


def follow_slider(last_age: int) -> None:
    """Take the brush off the chart, if the slider was really moved."""
    chosen = chosen_ages(last_age)
    chosen.slide(st.session_state.ages, feed.now())
    st.session_state.ages = chosen.ages


def choose_all(last_age: int) -> None:
    """Choose all ages, and take the brush off the chart."""
    chosen = chosen_ages(last_age)
    chosen.choose((0, last_age), st.session_state.get("ages", chosen.ages), feed.now())
    st.session_state.ages = chosen.ages


def show_chosen_ages(users_by_age: dict[int, int], total: int, last_age: int) -> None:
    """Let ages be chosen, by the brush or by the keyboard, and say what they come to."""
    st.slider(
        "Ages (or drag over the bars)",
        0,
        last_age,
        value=(0, last_age),
        key="ages",
        bind="query-params",
        on_change=follow_slider,
        args=(last_age,),
    )
    first, last = in_order(st.session_state.ages)
    everybody = (first, last) == (0, last_age)
    part = summarise(between(users_by_age, first, last))
    users = part.total if part else 0
    mean = f", {part.mean:.1f} years old on average" if part else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All ages", disabled=everybody, on_click=choose_all, args=(last_age,))
        if not everybody:
            share = f"{users / total:.1%} of all"
            st.text(f"From {first} to {last}: {how_many(users, 'user')}, {share}{mean}.")


def show_rate(latest: Latest[AgeCounts]) -> None:
    """Draw how fast users came in the last minutes, and the same as a table."""
    steps = intervals(totals(latest))
    with st.container(border=True):
        st.header("Net change per minute", anchor=False)
        if not steps:
            st.text("There is a bar here after two answers some seconds apart.")
            return
        st.vega_lite_chart(
            rate_chart(steps, latest.history[-1][0], HISTORY_SECONDS),
            key="rate",
            height=CHART_HEIGHT_PX // 2,
            alt=f"Net change in users per minute over the last {HISTORY_SECONDS // 60} minutes.",
        )
        net = sum(each.change for each in steps)
        st.text(
            f"Users created less users deleted, up to the last answer: {net:+,}. A pale bar spans"
            " 20 seconds or more without an answer, of which only the mean is known. Where most"
            " users are gone at once, the API began anew, and so do the bars."
        )
    show_table(
        "The same rates as a table",
        lambda: {
            "Until": [time_ago(feed.now() - each.end) for each in reversed(steps)],
            "Seconds": [f"{each.end - each.start:.0f}" for each in reversed(steps)],
            "Change": [f"{each.change:+,}" for each in reversed(steps)],
            "Per minute": [f"{each.per_minute:+,.1f}" for each in reversed(steps)],
        },
    )
