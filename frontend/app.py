"""The dashboard: how old the users are, as it is now. Read it from top to bottom, as a page.

Streamlit imports this file once, when the server starts, and finds `app` at its end. For each
visitor it then runs the file again, as a script.
"""

import sys

import altair as alt
import streamlit as st

from ages import Bin, Summary, histogram, summarise
from client import AnswerUnusable, ApiFault
from feed import TICK_SECONDS, Feed, Latest
from schema import AgeCounts
from settings import Settings, SettingsError, read_settings

BIN_WIDTHS_YEARS = (1, 2, 5, 10)
DEFAULT_BIN_WIDTH_YEARS = 5
CARD_HEIGHT_PX = 100
CHART_HEIGHT_PX = 400
WAIT_SECONDS = 0.5  # how long a redraw waits for a new answer before it shows what is known


@st.cache_resource(show_spinner=False)
def shared_feed(settings: Settings) -> Feed:
    """Return the one feed of this process: all visitors share its requests and its memory."""
    return Feed(settings)


@st.fragment(run_every=TICK_SECONDS)
def page(settings: Settings) -> None:
    """The whole page. It redraws itself every TICK_SECONDS, without a click."""
    latest = shared_feed(settings).latest(WAIT_SECONDS)
    show_title(latest)
    if latest.fault:
        show_fault(latest.fault)
    elif latest.age_counts is None:
        show_skeleton()
    if latest.age_counts is None:
        return
    summary = summarise(latest.age_counts.users_by_age)
    if summary:
        show_summary(summary)
        show_histogram(latest.age_counts.users_by_age, summary)
    elif not latest.fault:
        show_first_steps(settings)
    show_source(settings, latest.age_counts)


def show_title(latest: Latest) -> None:
    """Name the page, and say how far what it shows can be trusted."""
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        st.title("Ages of the users", anchor=False, width="content")
        ago = time_ago(latest.seconds_old)
        if latest.fault:
            what = "API error" if isinstance(latest.fault, AnswerUnusable) else "API down"
            since = f", last answer {ago}" if latest.age_counts else ""
            st.badge(what + since, icon=":material/cloud_off:", color="red")
        elif latest.age_counts is None:
            st.badge("Loading", icon=":material/hourglass_top:", color="gray")
        elif latest.seconds_old > 3 * TICK_SECONDS:
            st.badge(f"Waiting, last answer {ago}", icon=":material/hourglass_top:", color="orange")
        else:
            st.badge(f"Live, updated {ago}", icon=":material/sensors:", color="green")


def show_fault(fault: ApiFault) -> None:
    """Say what is wrong and what to do. Its words may come from outside: text, not Markdown."""
    st.error(
        f"It is asked again every {TICK_SECONDS} seconds, and the page goes on by itself.",
        title=(
            "The API answers, but not with what this page can use"
            if isinstance(fault, AnswerUnusable)
            else "The API does not answer"
        ),
    )
    with st.container(border=True, gap="xsmall"):
        st.text(fault.reason)
        st.text(f"Address tried: {fault.url}")
        st.text(f"What to do: {fault.hint}")


def show_skeleton() -> None:
    """Draw the outline of what is to come."""
    cards = st.grid(6, min_column_width=130)
    cards.cell(column_span=2).skeleton(height=CARD_HEIGHT_PX)
    for _ in range(4):
        cards.skeleton(height=CARD_HEIGHT_PX)
    st.skeleton(height=CHART_HEIGHT_PX)


def show_first_steps(settings: Settings) -> None:
    """Say what fills an empty page."""
    st.info("The API answers, and it has no users. Add some:", title="No users yet")
    st.code("cd data_ingestion_simulator\npython main.py", language="shell")
    st.code(f'curl -X POST "{settings.api_url}?user_id=123&name=Alice&age=30"', language="shell")


def show_summary(summary: Summary) -> None:
    """Draw a card for each number; the first takes two columns, so rows are full on a phone too."""
    cards = st.grid(6, min_column_width=130)
    cards.cell(column_span=2).metric("Users", f"{summary.total:,}", border=True)
    cards.metric("Mean age", f"{summary.mean:.1f}", border=True)
    cards.metric("Median age", f"{summary.median:g}", border=True)
    cards.metric("Youngest", summary.youngest, border=True)
    cards.metric("Oldest", summary.oldest, border=True)


def show_histogram(users_by_age: dict[int, int], summary: Summary) -> None:
    """Draw the bars, the control of their width, and the same numbers as a table."""
    with st.container(border=True):
        width_years = (
            st.segmented_control(
                "Bin width in years",
                BIN_WIDTHS_YEARS,
                default=DEFAULT_BIN_WIDTH_YEARS,
                required=True,
                key="bin",
                bind="query-params",  # so that a link to the page carries it
            )
            or DEFAULT_BIN_WIDTH_YEARS
        )
        bins = histogram(users_by_age, width_years)
        fullest = max(bins, key=lambda each: each.count)
        st.altair_chart(
            histogram_chart(bins),
            key="histogram",
            height=CHART_HEIGHT_PX,
            alt=(
                f"Histogram of the users by age; bin width in years: {width_years}. They are from"
                f" {summary.youngest} to {summary.oldest} years old; the fullest bin is"
                f" {fullest.label}."
            ),
        )
    with st.expander("The same numbers as a table"):
        st.table(
            {
                "Age": [each.label for each in bins],
                "Users": [f"{each.count:,}" for each in bins],
                "Share": [f"{each.share:.1%}" for each in bins],
            },
            border="horizontal",
            hide_index=True,
        )


def histogram_chart(bins: list[Bin]) -> alt.Chart:
    """Return the bars, each with its ages, users and share to see under the mouse."""
    rows = [
        {
            "from": bar.first,
            "to": bar.last + 1,
            "age": bar.label,
            "users": bar.count,
            "share": bar.share,
        }
        for bar in bins
    ]
    chart: alt.Chart = (
        # Data under a name travel beside the chart: new numbers move its bars, nothing blinks.
        alt.Chart(alt.NamedData("bins"), datasets={"bins": rows})
        .mark_bar(cornerRadiusEnd=3, binSpacing=2)
        .encode(
            alt.X(
                "from:Q",
                bin="binned",
                title="Age in years",
                axis=alt.Axis(tickCount=12, tickMinStep=1),
            ),
            alt.X2("to:Q"),
            alt.Y("users:Q", stack=None, title="Users", axis=alt.Axis(tickMinStep=1, format=",d")),
            tooltip=[
                alt.Tooltip("age:N", title="Age"),
                alt.Tooltip("users:Q", title="Users", format=","),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
            ],
        )
    )
    return chart


def show_source(settings: Settings, age_counts: AgeCounts) -> None:
    """Say where the numbers come from, and what is missing from them."""
    if age_counts.unreadable_rows:
        rows = "row" if age_counts.unreadable_rows == 1 else "rows"
        st.text(f"{age_counts.unreadable_rows:,} {rows} could not be read.")
    if age_counts.from_listing:
        st.text(f"Counted here, user by user, from the list at {settings.api_url}")
    else:
        st.text(f"Counted by the API at {settings.statistics_url}")


def time_ago(seconds: float) -> str:
    """Return how long ago something was, as people say it: `4 s ago`, `3 min ago`, `2 h ago`."""
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 3600 else f"{seconds / 3600:.0f} h ago"


try:
    settings = read_settings()
except SettingsError as error:
    print(error, file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":  # a visitor
    st.set_page_config(page_title="Ages of the users", layout="wide")
    page(settings)
else:  # the start of the server, which a mistake in the settings has ended by now
    app = st.App("app.py")
