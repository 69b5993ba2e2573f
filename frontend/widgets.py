"""What all pages share: the state of a page, and errors with what to do about them."""

import csv
import html
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import streamlit as st

from ages import MAX_AGE_YEARS, OVERFLOW_AGE_YEARS, AgeCounts
from api_client import TICK_SECONDS, ApiError, Latest, Poller, T, now

REFRESH_SECONDS = {math.inf: "Pause", 2.0: "2 s", 5.0: "5 s", 30.0: "30 s"}
WAIT_SECONDS = 0.5  # the longest wait of a redraw for a new response
# What to do about an error, by its status or its exception; how to start the simulator.
HINTS = json.loads((Path(__file__).parent / "hints.json").read_text(encoding="utf-8"))
# A spreadsheet runs a cell that begins with one of these, also after white space or a quote; the
# wide ones are typed on East Asian keyboards (OWASP, "CSV Injection"). Where lists are separated by
# semicolons, a new cell begins after each of them, and after the end of a line, quoted or not.
FORMULA = re.compile(r"(^|[;\r\n])([ \u00a0\"']*)(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")


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
        # The time of the redraw makes the HTML a new one: so the browser knows that it has news.
        data = f' data-age="{state.seconds_old:.2f}" data-text="{text}" data-at="{now():.2f}"'
        text = text.replace("{}", time_text(state.seconds_old))
    return f'<span class="badge {state.colour}"><i></i><span{data}>{text}</span></span>'


def show_title(title: str, subtitle: str, state: State) -> None:
    """Show the name of a page, what is seen on it, and its state."""
    faded = " faded" if state.colour in ("orange", "red") else ""
    st.html(f'<div class="title{faded}"><h1>{title}</h1><p>{subtitle}</p>{badge(state)}</div>')


def next_request(refresh_seconds: float, error: ApiError) -> str:
    """Say when a page sends the next request."""
    if math.isinf(refresh_seconds):
        return "This page is paused: resume it."
    seconds = max(refresh_seconds, error.retry_after_seconds)  # which the API asks for
    return f"The next request is sent within {seconds:.0f} seconds, without a click."


def choose(label: str, options: Mapping[T, str], default: T, key: str) -> T:
    """Return the viewer's choice; a link to the page carries it."""
    chosen = st.segmented_control(
        label, list(options), default=default, format_func=lambda each: options[each],
        required=True, key=key, bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    return default if chosen is None else chosen


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


def show_empty() -> None:
    """Draw the three services, and say how to add users to an empty API, however it runs."""
    st.html(
        '<ol class="services"><li><b>Simulator</b>creates users</li><li><b>API</b>stores them</li>'
        "<li><b>Dashboard</b>shows their ages</li></ol><h2>No users yet</h2>"
    )
    st.text("Start the simulator, or add a user on the page Users. These commands start it:")
    for tab, command in zip(st.tabs(list(HINTS["start"])), HINTS["start"].values(), strict=True):
        tab.code(command, language=None)


def selected_text(counts: AgeCounts, first: int, last: int) -> str:
    """Say how many users have the selected ages."""
    end, oldest = (last, "") if last < OVERFLOW_AGE_YEARS else (MAX_AGE_YEARS, "+")
    part = counts.between(first, end)
    text = f"Ages {first} to {last}{oldest}: {part.total:,} users, {part.total / counts.total:.1%}"
    return f"{text}, mean {part.mean:.1f}" if part.total else text


def time_text(seconds: float) -> str:
    """Return `4 s`, `3 min` or `2 h`; page.js does the same."""
    for unit, size_seconds in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size_seconds:
            return f"{seconds // size_seconds:.0f} {unit}"
    return f"{seconds // 1:.0f} s"


def how_many(number: int, thing: str) -> str:
    """Return `1 user`, `1,200 users`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def as_csv(*tables: list[dict[str, Any]]) -> bytes:
    """Return tables as CSV (RFC 4180) that a spreadsheet shows as text and never runs."""
    file = io.StringIO()
    for rows in filter(None, tables):
        csv.writer(file).writerows([rows[0], *(map(defuse, row.values()) for row in rows)])
    return file.getvalue().encode("utf-8-sig")  # its first bytes show Excel that this is UTF-8


def defuse(cell: Any) -> Any:
    """Return a cell that a spreadsheet does not run: an apostrophe makes it text."""
    return FORMULA.sub(r"\1'\2", cell) if isinstance(cell, str) else cell
