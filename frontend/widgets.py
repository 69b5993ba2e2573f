"""What all pages share: the state of a page, and errors with what to do about them."""

import html
import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import streamlit as st

from ages import GROUPS, MAX_AGE_YEARS, OVERFLOW_AGE_YEARS, AgeCounts, world_share
from api_client import TICK_SECONDS, ApiError, Latest, Poller, now

REFRESH_SECONDS = {"Pause": math.inf, "2 s": 2.0, "5 s": 5.0, "30 s": 30.0}
WAIT_SECONDS = 0.5  # the longest wait of a redraw for a new response
SILENCE_SECONDS = 7  # the browser then says that the dashboard itself is silent
START_SIMULATOR = {
    "Python": "cd data_ingestion_simulator && python main.py",
    "Docker": "docker start sim0",
    "Compose": "docker-compose up --detach simulator",
    "Kubernetes": "kubectl scale --namespace microservices deployment/simulator --replicas 1",
}

# What to do about an error: by the status, or by the exception that ended the request.
HINTS = json.loads((Path(__file__).parent / "hints.json").read_text(encoding="utf-8"))


class State(NamedTuple):
    """The state of a page or a service. In the text, {} is the age of the data, in seconds."""

    text: str
    colour: Literal["red", "orange", "green", "gray", "blue"]
    seconds_old: float | None = None


def state_of(latest: Latest[Any], refresh_seconds: float = TICK_SECONDS) -> State:
    """Return the state of a page; an infinite refresh time means that it is paused."""
    old = latest.seconds_old if latest.history else None
    if error := latest.error:
        return State(error.kind + (", last response {} ago" if latest.history else ""), "red", old)
    if old is None:
        return State("Loading", "gray")
    if math.isinf(refresh_seconds):
        return State("Paused, updated {} ago", "blue", old)
    if old > refresh_seconds + 2 * TICK_SECONDS:
        return State("Stale, last response {} ago", "orange", old)
    return State("Live, updated {} ago", "green", old)


def badge(state: State) -> str:
    """Return a state as HTML. page.js counts its seconds on, also if the server stops."""
    text, data = html.escape(state.text), ""
    if state.seconds_old is not None:
        # The number of the redraw makes the HTML a new one: so the browser knows that it has news.
        data = f' data-age="{state.seconds_old:.2f}" data-limit="{SILENCE_SECONDS}"'
        data += f' data-text="{text}" data-at="{now():.2f}"'
        text = text.replace("{}", time_text(state.seconds_old))
    return f'<span class="badge {state.colour}"><i></i><span{data}>{text}</span></span>'


def show_title(title: str, subtitle: str, state: State) -> None:
    """Show the name of a page, what is seen on it, and its state."""
    faded = " faded" if state.colour in ("orange", "red") else ""
    st.html(f'<div class="title{faded}"><h1>{title}</h1><p>{subtitle}</p>{badge(state)}</div>')


def next_request(refresh_seconds: float, error: ApiError | None = None) -> str:
    """Say when a page sends the next request."""
    if math.isinf(refresh_seconds):
        return "This page is paused: resume or refresh it."
    asked = error.retry_after_seconds if error else 0
    if asked > refresh_seconds:
        return f"The API asks to wait {asked:.0f} seconds: then the next request is sent."
    return f"The next request is sent within {refresh_seconds:g} seconds, without a click."


def choose_refresh_seconds() -> float:
    """Return how often the viewer wants new numbers, in seconds; infinite for a pause."""
    with st.container(horizontal=True, width="content", key="refreshing"):
        choice = st.session_state.get("refresh")
        if choice == "Pause" and st.button("Refresh now", icon=":material/refresh:"):
            st.session_state.pop("seen", None)
        label = st.segmented_control(
            "Refresh",
            list(REFRESH_SECONDS),
            default="2 s",
            required=True,
            key="refresh",
            bind="query-params",  # a link to the page carries the choice
            label_visibility="collapsed",
        )
    return REFRESH_SECONDS[label or "2 s"]


def newest(poller: Poller[AgeCounts], refresh_seconds: float) -> Latest[AgeCounts]:
    """Return the responses for this viewer: the same ones until the refresh time has passed."""
    seen: Latest[AgeCounts] | None = st.session_state.get("seen")
    if seen is None or seen.seconds_old + TICK_SECONDS / 2 > refresh_seconds:
        seen = poller.latest(WAIT_SECONDS)
    st.session_state.seen = seen
    return seen


def show_error(error: ApiError, next_step: str, unfolded: bool = False) -> None:
    """Say in one line what is wrong and what happens next; unfolded, why, and what to do."""
    # The label is Markdown, so it has only our words: the API may have written the others.
    status = f" (status {error.status})" if error.status else ""
    with st.expander(f"**{error.kind}**{status}. {next_step}", unfolded, icon=":material/error:"):
        reason, hint = explain(error)
        message = detail_of(error)
        st.text(f"{reason}\nThe API's message: {message}" if message else reason)
        st.text(f"What to do: {hint}\nAddress: {error.url}")


def explain(error: ApiError) -> tuple[str, str]:
    """Return why there is no usable response, and what to do about it."""
    if error.cause:
        causes: list[BaseException] = [error.cause]  # an inner one is the real cause
        while inner := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(inner)
        kinds = {kind.__name__ for each in causes for kind in type(each).__mro__}
        reason, hint = next(HINTS["causes"][name] for name in HINTS["causes"] if name in kinds)
        return reason, hint
    usual = "message" if detail_of(error) else "server" if (error.status or 0) >= 500 else "address"
    return error.reason, HINTS["statuses"].get(str(error.status), HINTS["statuses"][usual])


def detail_of(error: ApiError) -> str:
    """Return the API's own message (FastAPI has two formats for it), or an empty string."""
    try:
        detail = msgspec.json.decode(error.body)["detail"]
        if not isinstance(detail, str):
            detail = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in detail)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return ""
    return detail[:500]


def show_empty(read_only: bool) -> None:
    """Draw the three services, and say how to add users to an empty API, however it runs."""
    st.html(
        '<ol class="services"><li><b>Simulator</b>creates users</li><li><b>API</b>stores them</li>'
        "<li><b>Dashboard</b>shows their ages</li></ol><h2>No users yet</h2>"
    )
    other = "" if read_only else ", or add a user on the page Users"
    st.text(f"Start the simulator{other}. These commands start it:")
    for mode, tab in zip(START_SIMULATOR, st.tabs(list(START_SIMULATOR)), strict=True):
        tab.code(START_SIMULATOR[mode], language=None)


def show_headline(counts: AgeCounts, rate: str, rising: bool) -> None:
    """Show the number of users, its rate, the usual figures, and each group's share."""
    youngest, oldest = min(counts.users_by_age), max(counts.users_by_age)
    figures = (
        f"Median <b>{counts.median:g}</b> \u00b7 Mean <b>{counts.mean:.1f}</b>"
        f" \u00b7 Range <b>{youngest}\u2013{oldest}</b>"
    )
    tiles = ""
    for name, (first, last) in GROUPS.items():
        ages = f"{first}+" if last == MAX_AGE_YEARS else f"{first}\u2013{last}"
        share, world = counts.between(first, last).total / counts.total, world_share(first, last)
        tiles += f'<li class="{name.lower()}">{name} {ages}<b>{share:.1%}</b>world {world:.1%}</li>'
    mark = '<b class="rising">\u25b2 ' if rising else "<b>"
    st.html(
        f'<div class="headline"><p class="users"><b>{counts.total:,}</b> users</p>'
        f"<p>{mark}{rate}</b><br>{figures}</p><ul>{tiles}</ul></div>"
    )


def selected_text(counts: AgeCounts, first: int, last: int) -> str:
    """Say how many users have the selected ages."""
    part = counts.between(first, last if last < OVERFLOW_AGE_YEARS else MAX_AGE_YEARS)
    if (first, last) == (0, OVERFLOW_AGE_YEARS):
        return f"All ages: {part.total:,} users"
    end = f"{last}+" if last == OVERFLOW_AGE_YEARS else str(last)
    text = f"Ages {first} to {end}: {part.total:,} users, {part.total / counts.total:.1%}"
    return f"{text}, mean {part.mean:.1f}" if part.total else text


def show_source(url: str, counts: AgeCounts) -> None:
    """Say where the numbers come from, if it is not the usual call."""
    if counts.from_listing:
        st.text(f"The dashboard counted each user in the list at {url}")
    show_unreadable(counts.unreadable_rows)


def show_unreadable(rows: int) -> None:
    """Say how many rows of a listing are left out."""
    if rows:
        st.text(f"{how_many(rows, 'row')} could not be read.")


def time_text(seconds: float) -> str:
    """Return `4 s`, `3 min` or `2 h`; page.js does the same."""
    for unit, size_seconds in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size_seconds:
            return f"{seconds // size_seconds:.0f} {unit}"
    return f"{seconds // 1:.0f} s"


def how_many(number: int, thing: str) -> str:
    """Return `1 user`, `1,200 users`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
