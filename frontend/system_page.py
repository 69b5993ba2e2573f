"""The system page: a picture of simulator, API and dashboard, with the current state of each."""

import time
from typing import NamedTuple

import msgspec
import streamlit as st

from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, ApiError, Latest, Poller
from history import Change, recent_change
from widgets import State, next_request, show_error, show_state, show_title, state_of, time_ago

WAIT_SECONDS = 0.25  # the longest wait of a redraw, for each of two pollers
DASH = "\N{EN DASH}"
DURABLE = {True: "Users survive a restart", False: "Users are lost when the API stops"}


class Readiness(msgspec.Struct):
    """The body of `GET /ready`; an older API may omit fields."""

    store: str = "unknown"
    durable: bool | None = None


class ApiHealth(NamedTuple):
    """The result of a health check. `replica` is the name of the replica that responded."""

    not_ready: ApiError | None
    readiness: Readiness
    replica: str
    latency_seconds: float


def check_health(api: ApiClient) -> ApiHealth:
    """Ask the API whether it is alive and ready. Raises ApiError if it is not alive."""
    started_at = time.monotonic()
    alive = api.request(api.beside("health"))
    latency_seconds = time.monotonic() - started_at
    not_ready, readiness = None, Readiness()
    try:
        readiness = api.request(api.beside("ready")).decode(Readiness)
    except ApiError as error:
        not_ready = error.with_traceback(None)
    replica = alive.headers.get("x-replica", "unknown")[:100]
    return ApiHealth(not_ready, readiness, replica, latency_seconds)


@st.fragment(run_every=TICK_SECONDS)
def system_page(api: ApiClient, ages: Poller[AgeCounts], health: Poller[ApiHealth]) -> None:
    """Show the three services. The page redraws itself every TICK_SECONDS."""
    latest, checked = ages.latest(WAIT_SECONDS), health.latest(WAIT_SECONDS)
    api_state, ages_state = state_of_api(checked), state_of(latest)
    live = ages_state.colour == "green"
    show_title("The system", api_state if live and api_state.colour != "green" else ages_state)
    change = recent_change(latest) if live else None
    rate = f"{change.per_minute:+,.1f}" if change else DASH
    simulator, posts, service, gets, dashboard = st.columns(
        [5, 2, 5, 2, 5], gap="small", vertical_alignment="center"
    )
    with simulator.container(border=True, height="stretch", gap="small"):
        show_simulator(change, rate)
    rate_text = "broken" if api_state.colour == "red" else f"{rate} / min"
    text = f"POST /users/\n\N{RIGHTWARDS ARROW}\n{rate_text}"
    posts.text(text, width="stretch", text_alignment="center")
    with service.container(border=True, height="stretch", gap="small"):
        show_api(checked, api_state)
    ago = "broken" if latest.error else time_ago(latest.seconds_old) if latest.history else DASH
    text = f"GET /stats/ages\n\N{LEFTWARDS ARROW}\n{ago}"
    gets.text(text, width="stretch", text_alignment="center")
    with dashboard.container(border=True, height="stretch", gap="small"):
        st.header("Dashboard", anchor=False)
        show_state(State("Running", "check_circle", "green"))
        st.metric("Requests", f"every {TICK_SECONDS} s")
        st.text("One request per interval, however many viewers; none without a viewer")
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


def show_simulator(change: Change | None, rate: str) -> None:
    """Show whether users arrive. The simulator itself has no endpoint for its state."""
    st.header("Simulator", anchor=False)
    # Without growth, users may still arrive: perhaps as many are deleted as are created.
    state = State("No growth seen", "pause_circle", "orange")
    if change is None:
        state = State("Unknown", "help", "gray")
    elif change.users > 0:
        state = State("Users arrive", "check_circle", "green")
    show_state(state)
    st.metric("Net change per minute", rate)
    st.text("New users minus deleted users, from all clients, in the last minute")


def show_api(checked: Latest[ApiHealth], state: State) -> None:
    """Show the state of the API, and what it says about itself."""
    st.header("User Management API", anchor=False)
    show_state(state)
    current = checked.value if state.colour == "green" or state.text == "Alive, not ready" else None
    milliseconds = f"{current.latency_seconds * 1000:.1f} ms" if current else DASH
    st.metric("Latency of /health", milliseconds)
    st.text(f"Replica: {current.replica if current else 'unknown'}")
    st.text("\N{DOWNWARDS ARROW} stores the users in", width="stretch", text_alignment="center")
    readiness = current.readiness if current else Readiness()
    with st.container(border=True, gap="xsmall"):
        st.text(f"Store: {readiness.store[:50]}")
        st.text("Durable: unknown" if readiness.durable is None else DURABLE[readiness.durable])
