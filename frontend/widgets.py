"""What all pages share: the state of a page, and errors with what to do about them."""

import math
import socket
import ssl
from typing import Any, Literal, NamedTuple

import httpx2
import msgspec
import streamlit as st

from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, ApiError, Latest, Poller

REFRESH_SECONDS = {"Pause": math.inf, "2 s": 2.0, "5 s": 5.0, "30 s": 30.0}
WAIT_SECONDS = 0.5  # the longest wait of a redraw for a new response

CHECK_ADDRESS = (
    "Check API_URL: it must be the full address of the users, such as http://localhost:8000/users/."
)
CHECK_LOG = "Look at what the API wrote in its terminal or log."
CHECK_NAME = (
    "Check the name in API_URL. Between containers it is the name or alias of the API's container,"
    " and both must be in the same network."
)
CHECK_TLS = "Write http:// in API_URL if the API does not use TLS; else check its certificate."
FINAL_ADDRESS = "Set API_URL to the final address: redirects are not followed."
START_API = (
    "Start the API, or set API_URL to where it runs. Inside a container, localhost is the"
    " container itself."
)
HINTS = {
    **dict.fromkeys((301, 302, 303, 307, 308), FINAL_ADDRESS),
    400: "Check ALLOWED_HOSTS of the API.",
    401: "A write needs the API_TOKEN of the API. Reading needs none: check API_URL and any proxy.",
    403: "The API refuses writes from another site: check which Origin a proxy adds.",
    404: f"{CHECK_ADDRESS} A user who is not found was deleted by another client: reload.",
    507: "Delete users, or start the API with a larger MAX_USERS.",
}
# Why there is no response, and what to do. The first type that is among the causes is used.
REASONS: dict[type[BaseException], tuple[str, str]] = {
    socket.gaierror: ("The host name in the address cannot be resolved.", CHECK_NAME),
    ConnectionRefusedError: ("Connection refused: no server listens there.", START_API),
    ssl.SSLError: ("No secure (TLS) connection could be made.", CHECK_TLS),
    httpx2.ConnectTimeout: ("No connection was made in time.", START_API),
    httpx2.TimeoutException: ("The API sent nothing for too long.", CHECK_LOG),
    TimeoutError: ("The response was not complete in time.", CHECK_LOG),
    httpx2.TransportError: ("The connection broke.", CHECK_LOG),
    Exception: ("The address cannot be used.", CHECK_ADDRESS),
}
# After an error or a late response, numbers are faded; small text must stay readable.
FADED = (
    ".st-key-numbers{filter:grayscale(1)}.st-key-numbers [data-testid=stMetricValue]{opacity:.6}"
)
# Hide Streamlit's toolbar of a chart: it shows the columns that we made for Vega-Lite.
NO_TOOLS = ".st-key-numbers [data-testid=stElementToolbar]{display:none}"


class State(NamedTuple):
    """The badge of a page: whether its numbers are current."""

    text: str
    icon: str
    colour: Literal["red", "orange", "green", "gray", "blue"]


def state_of(latest: Latest[Any], refresh_seconds: float = TICK_SECONDS) -> State:
    """Return the state of a page; an infinite refresh time means that it is paused."""
    ago = time_ago(latest.seconds_old)
    if error := latest.error:
        since = f", last response {ago}" if latest.history else ""
        icon = "cloud_off" if error.kind == "API down" else "error"
        return State(error.kind + since, icon, "red")
    if not latest.history:
        return State("Loading", "hourglass_top", "gray")
    if math.isinf(refresh_seconds):
        return State(f"Paused, updated {ago}", "pause", "blue")
    if latest.seconds_old > refresh_seconds + 2 * TICK_SECONDS:
        return State(f"Stale, last response {ago}", "hourglass_top", "orange")
    return State(f"Live, updated {ago}", "sensors", "green")


def show_state(state: State) -> None:
    """Show a state as a badge."""
    st.badge(state.text, icon=f":material/{state.icon}:", color=state.colour)


def show_title(title: str, state: State) -> None:
    """Show the name of a page and its state, and fade its numbers if they are not current."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.title(title, anchor=False, width="content")
        show_state(state)
    st.html(f"<style>{NO_TOOLS}{FADED if state.colour in ('orange', 'red') else ''}</style>")


def next_request(refresh_seconds: float) -> str:
    """Say when a page sends the next request."""
    if math.isinf(refresh_seconds):
        return "The next request is sent when you resume or refresh."
    return f"The next request is sent within {refresh_seconds:g} seconds, without a click."


def choose_refresh_seconds() -> float:
    """Return how often the viewer wants new numbers, in seconds; infinite for a pause."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        label = st.segmented_control(
            "Refresh",
            list(REFRESH_SECONDS),
            default="2 s",
            required=True,
            key="refresh",
            bind="query-params",  # a link to the page carries the choice
            label_visibility="collapsed",
        )
        if label == "Pause" and st.button("Refresh now", icon=":material/refresh:"):
            st.session_state.pop("seen", None)
    return REFRESH_SECONDS[label or "2 s"]


def newest(poller: Poller[AgeCounts], refresh_seconds: float) -> Latest[AgeCounts]:
    """Return the responses for this viewer: the same ones until the refresh time has passed."""
    seen: Latest[AgeCounts] | None = st.session_state.get("seen")
    if seen is None or seen.seconds_old + TICK_SECONDS / 2 > refresh_seconds:
        seen = poller.latest(WAIT_SECONDS)
    st.session_state.seen = seen
    return seen


def show_error(error: ApiError, next_step: str) -> None:
    """Say in one box what is wrong and what to do."""
    with st.container(border=True, gap="small"):
        st.error(next_step, title=error.kind)
        show_reason(error)


def show_reason(error: ApiError) -> None:
    """Say why, and what to do. Plain text, not Markdown: the API may have written it."""
    reason, hint = explain(error)
    st.text(reason)
    if message := detail_of(error):
        st.text(f"The API's message: {message}")
    st.text(f"What to do: {hint}")
    with st.expander("Details"):
        st.text(f"Address: {error.url}")


def explain(error: ApiError) -> tuple[str, str]:
    """Return why there is no usable response, and what to do about it."""
    if error.cause:
        causes: list[BaseException] = [error.cause]  # an inner one is the real cause
        while inner := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(inner)
        found = (kind for kind in REASONS if any(isinstance(each, kind) for each in causes))
        return REASONS[next(found)]
    status = error.status or 0
    if status in HINTS:
        return error.reason, HINTS[status]
    if status >= 500:
        return error.reason, CHECK_LOG
    return error.reason, "Change what the message names." if detail_of(error) else CHECK_ADDRESS


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
    """Say how to add users to an empty API."""
    st.info("Start the simulator, or add a user on the page Users.", title="No users yet")
    st.code("cd data_ingestion_simulator\npython main.py", language=None)


def show_source(api: ApiClient, counts: AgeCounts) -> None:
    """Say where the numbers come from."""
    if counts.from_listing:
        st.text(f"The dashboard counted each user in the list at {api.users_url}")
    show_unreadable(counts.unreadable_rows)


def show_unreadable(rows: int) -> None:
    """Say how many rows of a listing are left out."""
    if rows:
        st.text(f"{how_many(rows, 'row')} could not be read.")


def time_ago(seconds: float) -> str:
    """Return `just now`, `4 s ago`, `3 min ago` or `2 h ago`."""
    for unit, size_seconds in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size_seconds:
            return f"{seconds / size_seconds:.0f} {unit} ago"
    return "just now"


def how_many(number: int, thing: str) -> str:
    """Return `1 user`, `1,200 users`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
