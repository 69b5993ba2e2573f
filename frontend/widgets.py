"""What all pages share: the state of a page, errors with what to do about them, and tables."""

import math
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import httpx2
import msgspec
import streamlit as st

from ages import AgeCounts
from api_client import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    TICK_SECONDS,
    TOTAL_TIMEOUT_SECONDS,
    ApiClient,
    ApiError,
    Latest,
)
from live_page import bin_label

CHECK_ADDRESS = (
    "Check API_URL: it must be the full address of the users, such as http://localhost:8000/users/."
)
CHECK_LOG = "Look at what the API wrote in its terminal or log."
CHECK_NAME = (
    "Check the name in API_URL. Between containers it is the name or alias of the API's container,"
    " and both must be in the same network."
)
CHECK_PROXY = "Reading needs no token: check the host in API_URL, and any proxy before the API."
CHECK_REDIRECT = "Set API_URL to the final address: redirects are not followed."
CHECK_TLS = "Write http:// in API_URL if the API does not use TLS; else check its certificate."
START_API = (
    "Start the API, or set API_URL to where it runs. Inside a container, localhost is the"
    " container itself."
)
TITLES = {
    "API down": "The API does not respond",
    "API refuses": "The API refuses the request",
    "Not understood": "The API's response was not understood",
    "API error": "The API's response cannot be used",
}
HINTS = {400: "Check ALLOWED_HOSTS of the API.", 401: CHECK_PROXY, 403: CHECK_PROXY}
# The first row whose exception is among the causes tells why there is no response.
REASONS: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "The host name in the address cannot be resolved.", CHECK_NAME),
    (ConnectionRefusedError, "Connection refused: no server listens there.", START_API),
    (ssl.SSLError, "No secure (TLS) connection could be made.", CHECK_TLS),
    (
        httpx2.ConnectTimeout,
        f"No connection was made within {CONNECT_TIMEOUT_SECONDS:g} seconds.",
        START_API,
    ),
    (
        httpx2.TimeoutException,
        f"The API sent nothing for {READ_TIMEOUT_SECONDS:g} seconds.",
        CHECK_LOG,
    ),
    (
        TimeoutError,
        f"The response was not complete within {TOTAL_TIMEOUT_SECONDS:g} seconds.",
        CHECK_LOG,
    ),
    (httpx2.TransportError, "The connection broke.", CHECK_LOG),
    (Exception, "The address cannot be used.", CHECK_ADDRESS),
)
# The numbers of an error or of a late response are faded; small letters must stay readable.
FADED = (
    ".st-key-numbers{filter:grayscale(1)}.st-key-numbers [data-testid=stMetricValue]{opacity:.6}"
)
# Each chart has its own table, so it needs no tools that show one, or copy it.
NO_TOOLS = ".st-key-numbers [data-testid=stElementToolbar]{display:none}"


class State(NamedTuple):
    """The badge of a page: how far its numbers can be trusted."""

    text: str
    icon: str
    colour: Literal["red", "orange", "green", "gray", "blue"]


def state_of(latest: Latest[Any], refresh_seconds: float = TICK_SECONDS) -> State:
    """Return the state of a page with this refresh time; an infinite one is a pause."""
    ago = time_ago(latest.seconds_old)
    if latest.error:
        return error_state(latest.error, f", last response {ago}" if latest.history else "")
    if not latest.history:
        return State("Loading", "hourglass_top", "gray")
    if math.isinf(refresh_seconds):
        return State(f"Paused, updated {ago}", "pause", "blue")
    if latest.seconds_old > refresh_seconds + 2 * TICK_SECONDS:
        return State(f"Stale, last response {ago}", "hourglass_top", "orange")
    return State(f"Live, updated {ago}", "sensors", "green")


def error_state(error: ApiError, since: str = "") -> State:
    """Return the state of a page that has an error."""
    return State(error.kind + since, "cloud_off" if error.kind == "API down" else "error", "red")


def show_state(state: State) -> None:
    """Show a state as a badge."""
    st.badge(state.text, icon=f":material/{state.icon}:", color=state.colour)


def show_title(title: str, state: State) -> None:
    """Show the name of a page and its state; numbers that are not of now are faded."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.title(title, anchor=False, width="content")
        show_state(state)
    st.html(f"<style>{NO_TOOLS}{FADED if state.colour in ('orange', 'red') else ''}</style>")


def next_request(refresh_seconds: float) -> str:
    """Say when a page sends the next request."""
    if math.isinf(refresh_seconds):
        return "The next request is sent when you resume or refresh."
    return f"The next request is sent within {refresh_seconds:g} seconds, without a click."


def show_error(
    error: ApiError, next_step: str, hint: str = "", labels: Mapping[str, str] | None = None
) -> None:
    """Say in one box what is wrong and what to do.

    With the `labels` of a form, the API's own message about its fields is the reason.
    """
    with st.container(border=True, gap="small"):
        st.error(next_step, title=TITLES[error.kind])
        show_reason(error, hint, labels)


def show_reason(error: ApiError, hint: str = "", labels: Mapping[str, str] | None = None) -> None:
    """Say why, and what to do; the rest is folded away. Plain text, never Markdown."""
    (reason, usual_hint), detail = explain(error), detail_of(error, labels or {})
    st.text(detail if detail and labels else reason)
    st.text(f"What to do: {hint or usual_hint}")
    with st.expander("Details"):
        if detail:
            st.text(reason if labels else f"The API's message: {detail}")
        st.text(f"Address: {error.url}")


def explain(error: ApiError) -> tuple[str, str]:
    """Return why there is no usable response, and what to do about it."""
    if error.cause:
        causes = _causes(error.cause)
        return next(
            (reason, hint)
            for kind, reason, hint in REASONS
            if any(isinstance(cause, kind) for cause in causes)
        )
    if error.kind == "Not understood":
        return f"The response was not understood. {error.reason}", CHECK_ADDRESS
    status = error.status or 0
    if 300 <= status < 400:
        return error.reason, CHECK_REDIRECT
    return error.reason, HINTS.get(status, CHECK_LOG if status >= 500 else CHECK_ADDRESS)


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an exception and all that it was raised from: the reason is deep inside."""
    return [error, *_causes(error.__cause__ or error.__context__)] if error else []


def detail_of(error: ApiError, labels: Mapping[str, str]) -> str:
    """Return the API's own message, in both shapes that FastAPI has, or an empty string."""
    detail: Any = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        detail = msgspec.json.decode(error.body, type=dict[str, Any]).get("detail")
    texts = []
    for part in detail if isinstance(detail, list) else [detail]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            location = part.get("loc")
            field = str(location[-1]) if isinstance(location, list) and location else ""
            texts.append(f"{labels.get(field, field)}: {part.get('msg', '')}".removeprefix(": "))
    return "; ".join(filter(None, texts))[:500]


def show_empty() -> None:
    """Say how to add users to an empty API."""
    st.info("The API responds, and it has no users. Add some:", title="No users yet")
    st.code("cd data_ingestion_simulator\npython main.py", language=None)
    st.text("Or add one by hand: on the page Users, choose Add a user.")


def show_source(api: ApiClient, counts: AgeCounts) -> None:
    """Say where the numbers come from."""
    if counts.unreadable_rows:
        st.text(f"{how_many(counts.unreadable_rows, 'row')} could not be read.")
    if counts.from_listing:
        st.text(f"Counted by the dashboard, user by user, from the list at {api.users_url}")
    else:
        st.text(f"Counted by the API at {api.beside('stats/ages')}")


def show_counts_table(counts: AgeCounts) -> None:
    """Offer the numbers of the histogram as a table."""
    width_years = st.session_state.bin
    bins = counts.histogram(width_years)
    show_table(
        "The same numbers as a table",
        lambda: {
            "Age": [bin_label(first, width_years) for first in bins],
            "Users": [f"{users:,}" for users in bins.values()],
            "Share": [f"{users / counts.total:.1%}" for users in bins.values()],
        },
    )


def show_table(label: str, columns: Callable[[], Mapping[str, Sequence[str]]]) -> None:
    """Offer columns of our own texts, which are sent when the table is opened.

    Not for names: a table renders Markdown.
    """
    with st.expander(label, key=label, on_change="rerun") as expander:
        if expander.open:
            st.table(columns(), border="horizontal", hide_index=True)


def time_ago(seconds: float) -> str:
    """Return `just now`, `4 s ago`, `3 min ago` or `2 h ago`."""
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 3600 else f"{seconds / 3600:.0f} h ago"


def how_many(number: int, thing: str) -> str:
    """Return `1 user`, `1,200 users`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
