"""The system page: simulator, API and dashboard as a picture, with the state of each one now."""

import time
from typing import NamedTuple

import msgspec
import streamlit as st

from ages import AgeCounts
from api_client import (
    TICK_SECONDS,
    TOTAL_TIMEOUT_SECONDS,
    ApiClient,
    ApiError,
    Latest,
    Poller,
)
from history import MINUTE_SECONDS, intervals, recent_change, totals_of
from widgets import State, next_request, show_error, show_state, show_title, state_of, time_ago

MAX_OPENAPI_BYTES = 4 * 1024 * 1024
VERSION_SECONDS = 60.0  # for which a version is believed
WAIT_SECONDS = 0.25  # for each of two pollers, before a redraw shows what is known
DASH = "\N{EN DASH}"
DURABLE = {
    True: "Users survive a restart",
    False: "Users are lost when the API stops",
    None: "Durable: unknown",
}
ARROW = (  # where the page is narrow, it points down or up
    "<style>@media(max-width:640px){"
    ".call-arrow{transform:rotate(90deg);margin:2rem auto!important}}</style>"
)


class Readiness(msgspec.Struct):
    """The body of `GET /ready`; None is what the API does not tell."""

    store: str | None = None
    durable: bool | None = None


class Info(msgspec.Struct):
    """The part of an OpenAPI document that has the version."""

    version: str | None = None


class OpenApi(msgspec.Struct):
    """The part of `GET /openapi.json` that is read."""

    info: Info = msgspec.field(default_factory=Info)


class ApiHealth(NamedTuple):
    """How the API is. `replica` is the one that responded; a None is not known."""

    not_ready: ApiError | None
    readiness: Readiness
    version: str | None
    replica: str | None
    latency_seconds: float


class HealthCheck:
    """Asks the API how it is, and once in VERSION_SECONDS for its version.

    Each check has new connections: behind a load balancer the replicas take turns.
    """

    def __init__(self, users_url: str) -> None:
        self._api = ApiClient(users_url, keepalive_seconds=0)
        self._version: str | None = None
        self._version_at = float("-inf")

    def __call__(self) -> ApiHealth:
        """Return the health of an API that is alive. Raises ApiError."""
        deadline = time.monotonic() + TOTAL_TIMEOUT_SECONDS
        api, not_ready, readiness = self._api, None, Readiness()
        try:
            alive = api.request(api.beside("health"), deadline)
        except ApiError:
            self._version_at = float("-inf")  # another version may start
            raise
        try:
            readiness = api.request(api.beside("ready"), deadline).decode(Readiness)
        except ApiError as error:
            not_ready = error.with_traceback(None)
        if time.monotonic() - self._version_at > VERSION_SECONDS:
            self._version, self._version_at = self._fetch_version(deadline), time.monotonic()
        replica = alive.headers.get("x-replica", "")[:100] or None
        return ApiHealth(not_ready, readiness, self._version, replica, alive.seconds)

    def _fetch_version(self, deadline: float) -> str | None:
        url = self._api.beside("openapi.json")
        try:
            document = self._api.request(url, deadline, max_bytes=MAX_OPENAPI_BYTES)
            return document.decode(OpenApi).info.version
        except ApiError:
            return None


@st.fragment(run_every=TICK_SECONDS)
def system_page(api: ApiClient, ages: Poller[AgeCounts], health: Poller[ApiHealth]) -> None:
    """Show the three services. The page redraws itself every TICK_SECONDS."""
    latest, checked = ages.latest(WAIT_SECONDS), health.latest(WAIT_SECONDS)
    api_state, ages_state = state_of_api(checked), state_of(latest)
    show_title("The system", api_state if ages_state.colour == "green" else ages_state)
    change = recent_change(totals_of(latest), MINUTE_SECONDS) if latest.history else None
    if ages_state.colour != "green":
        change = None
    rate = f"{change[0] / change[1] * MINUTE_SECONDS:+,.1f}" if change else DASH
    simulator, posts, service, gets, dashboard = st.columns(
        [5, 2, 5, 2, 5], gap="small", vertical_alignment="center"
    )
    with simulator.container(border=True, height="stretch", gap="small"):
        show_simulator(latest, change, rate)
    broken = api_state.colour == "red"
    posts.html(call_arrow("POST /users/", f"{rate} / min" if change else "", False, broken))
    with service.container(border=True, height="stretch", gap="small"):
        show_api(checked, api_state)
    ago = time_ago(latest.seconds_old) if latest.history else ""
    gets.html(call_arrow("GET /stats/ages", ago, True, bool(latest.error)))
    with dashboard.container(border=True, height="stretch", gap="small"):
        st.header("Dashboard", anchor=False)
        show_state(State("Running", "check_circle", "green"))
        st.metric("Requests", f"every {TICK_SECONDS} s")
        st.text("One request per interval, however many viewers; none without a viewer")
        st.text(f"Streamlit {st.__version__}")
        st.text(f"API_URL: {api.users_url}")
    not_ready = checked.value.not_ready if checked.value and not checked.error else None
    errors = {each.kind: each for each in (not_ready, checked.error, latest.error) if each}
    for error in errors.values():
        show_error(error, next_request(TICK_SECONDS))


def state_of_api(checked: Latest[ApiHealth]) -> State:
    """Return the state of the API."""
    state = state_of(checked)
    if not checked.value or state.colour != "green":
        return state
    if checked.value.not_ready:
        return State("Alive, not ready", "pending", "orange")
    return State("Alive and ready", "check_circle", "green")


def show_simulator(latest: Latest[AgeCounts], change: tuple[int, float] | None, rate: str) -> None:
    """Show what the simulator sends, as far as the number of users tells."""
    st.header("Simulator", anchor=False)
    if change is None:
        show_state(State("Unknown", "help", "gray"))
        st.metric("Net change per minute", DASH)
        return
    # As many users may be deleted as are created: no growth does not prove that none are sent.
    growth = State("Users arrive", "check_circle", "green")
    show_state(growth if change[0] > 0 else State("No growth seen", "pause_circle", "orange"))
    trend = [each.per_minute for each in intervals(totals_of(latest))]
    st.metric("Net change per minute", rate, chart_data=trend)
    st.text(f"New users minus deleted users in {change[1]:.0f} s, from all clients")


def show_api(checked: Latest[ApiHealth], state: State) -> None:
    """Show the state of the API, and what it tells about itself."""
    st.header("User Management API", anchor=False)
    show_state(state)
    current = checked.value if state.colour == "green" or state.text == "Alive, not ready" else None
    trend = [each.latency_seconds * 1000 for _, each in checked.history]
    latency = f"{current.latency_seconds * 1000:.1f} ms" if current else DASH
    st.metric("Latency of /health", latency, chart_data=trend if current else None)
    st.text(f"Version: {(current and current.version) or 'unknown'}")
    st.text(f"Replica: {(current and current.replica) or 'unknown'}")
    st.text("\N{DOWNWARDS ARROW} stores the users in", width="stretch", text_alignment="center")
    readiness = current.readiness if current else Readiness()
    with st.container(border=True, gap="xsmall"):
        st.text(f"Store: {(readiness.store or 'unknown')[:50]}")
        st.text(DURABLE[readiness.durable])


def call_arrow(call: str, text: str, backwards: bool, broken: bool) -> str:
    """Return an arrow as HTML, between a call and a text; a broken one is red and dashed."""
    colour, style = ("#d33", "dashed") if broken else ("currentColor", "solid")
    side, angle = ("left", -135) if backwards else ("right", 45)
    line = f"border:0 {style} {colour};border-width:2px 0 0"
    head = f"border:0 solid {colour};border-width:2px 2px 0 0;width:0.6rem;height:0.6rem"
    return (
        f'{ARROW}<div style="text-align:center;font-size:0.875rem">{call}'
        '<div class="call-arrow" aria-hidden="true"'
        ' style="position:relative;width:4rem;height:0.6rem;margin:0.75rem auto;opacity:0.7">'
        f'<div style="{line};position:absolute;left:0;right:0;top:50%;margin-top:-1px"></div>'
        f'<div style="{head};position:absolute;{side}:0;transform:rotate({angle}deg)"></div>'
        f"</div>{'broken' if broken else text}</div>"
    )
