"""Streamlit, and the parts that all pages are made of. It enters here, and pages take it from here.

What many visitors look at is shared by them: the feed, the probe, and whether writes are refused.
"""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import calls
from charts import trend_line
from client import Line
from faults import ApiFault
from feed import Feed, Latest
from schema import AgeCounts
from settings import Settings
from words import State, fault_lines

__all__ = ["st"]

REFUSAL_SECONDS = 60  # for which it is believed that the API takes, or refuses, our writes


@st.cache_resource(show_spinner=False, on_release=Line.close)
def shared_line(settings: Settings) -> Line:
    """Return the way to the API whose connection is kept from tick to tick."""
    return Line(settings)


@st.cache_resource(show_spinner=False)
def shared_feed(settings: Settings) -> Feed[AgeCounts]:
    """Return the one feed of this process: all visitors share its requests and its memory."""
    line = shared_line(settings)
    return Feed(settings, lambda settings: calls.fetch_age_counts(settings, line))


@st.cache_resource(show_spinner=False)
def shared_probe(settings: Settings) -> Feed[calls.ApiState]:
    """Return what asks the API how it is, for all visitors together."""
    return Feed(settings, calls.ApiProbe())


@st.cache_resource(ttl=REFUSAL_SECONDS, show_spinner=False)
def shared_refusal(settings: Settings) -> ApiFault | None:
    """Return why the API would refuse a write, None when it seems that it would not."""
    refusal = calls.write_refusal(settings)
    return refusal and refusal.without_traces()


def totals(latest: Latest[AgeCounts]) -> list[tuple[float, int]]:
    """Return how many users there were at each answer of the last minutes."""
    return [(at, counts.total) for at, counts in latest.history]


def show_bar() -> DeltaGenerator:
    """Return a bar whose parts stand at its ends, and below each other where it is narrow."""
    return st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    )


def show_title(title: str, state: State) -> None:
    """Name the page, and say how far what it shows can be trusted."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.title(title, anchor=False, width="content")
        show_state(state)


def show_card() -> DeltaGenerator:
    """Return a card, as high as those beside it, with what it ends with at its foot."""
    return st.container(
        border=True, height="stretch", gap="xsmall", vertical_alignment="distribute"
    )


def show_trend(points: Sequence[tuple[float, float]]) -> None:
    """Draw how a number went, by time; what it is now is told beside the line."""
    st.html(trend_line(points))


def show_state(state: State) -> None:
    """Show a state by its words, an icon and a colour."""
    st.badge(state.words, icon=f":material/{state.icon}:", color=state.colour)


def show_fault(fault: ApiFault, what_now: str, in_its_words: bool = False) -> None:
    """Say in one box what is wrong and what to do."""
    with st.container(border=True, gap="small"):
        st.error(what_now, title=fault.title)
        show_reason(fault, in_its_words)


def show_reason(fault: ApiFault, in_its_words: bool = False) -> None:
    """Say why; the rest is folded away. Words may come from outside: text, not Markdown."""
    first, rest = fault_lines(fault, in_its_words)
    for line in first:
        st.text(line)
    with st.expander("Details"):
        for line in rest:
            st.text(line)


def show_table(label: str, columns: Callable[[], Mapping[str, Sequence[str]]]) -> None:
    """Offer columns of our own words and numbers, which are made and sent when it is opened.

    Not for names: a table renders Markdown.
    """
    with st.expander(label, key=label, on_change="rerun") as expander:
        if expander.open:
            st.table(columns(), border="horizontal", hide_index=True)
