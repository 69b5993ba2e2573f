"""The system page: a card for each simulator and replica, and the API's work as charts."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from html import escape

import streamlit as st

import charts
from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, Latest, Poller, now
from history import recent_change
from monitor import LOOK_SECONDS, Look, Reading, readings, state_of_api
from widgets import State, badge, next_request, show_error, show_title, state_of

POINTS = 60  # of a line
MINUTES = (5, 15, 60)
DURABLE = {True: "Users survive a restart", False: "Users are lost when the API stops"}


@st.fragment(run_every=TICK_SECONDS)
def system_page(api: ApiClient, ages: Poller[AgeCounts], looks: Poller[Look]) -> None:
    """Show the services and their work. The page redraws itself every TICK_SECONDS."""
    counts, seen = ages.latest(0.25), looks.latest(0.25)
    state, ages_state = state_of_api(seen, counts), state_of(counts)
    healthy = state.colour == "green" or ages_state.colour != "green"
    show_title("The system", "Who talks to whom, and how well", ages_state if healthy else state)
    look = seen.value if state_of(seen, LOOK_SECONDS).colour == "green" else None
    with st.container(key="errors"):
        errors = look.not_ready if look else None, counts.error, seen.error
        for error in {each.kind: each for each in errors if each}.values():
            show_error(error, next_request(TICK_SECONDS, error))
    about = f"One request every {TICK_SECONDS} s for all viewers", f"API_URL: {api.users_url}"
    cards = [*simulator_cards(counts, seen, look), *api_cards(seen, state, look)]
    cards.append(card("Dashboard", State("Running", "green"), *about))
    for fault in look.faults if look else ():
        whose = f"{fault.share:.0%} of the requests of the {fault.service}"
        strikes = f"{fault.strikes:,} disturbed so far"
        cards.append(card(f"Fault: {fault.kind}", State("On", "orange"), whose, strikes))
    st.html(f'<ul class="cards">{"".join(cards)}</ul>')
    if look and look.metrics.numbers:
        show_work(seen)
    else:
        st.text("The API shows no metrics at /metrics, so there are no charts of its work.")


def card(title: str, state: State, *lines: str) -> str:
    """Return a service, its state and what it says as HTML. The lines are plain text."""
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f"<li><h2>{escape(title)}</h2>{badge(state)}{text}</li>"


def simulator_cards(
    counts: Latest[AgeCounts], seen: Latest[Look], look: Look | None
) -> Iterator[str]:
    """Yield a card for each simulator that reports to the API; without one, do users arrive?"""
    if look and look.metrics.simulators:
        for name, each in look.metrics.simulators.items():
            active = name in look.active_simulators()
            away = State("Silent for {}", "gray", look.taken_at - each.get("seen", 0.0))
            state, rate = State("Sends users", "green") if active else away, each.get("users", 0.0)
            outcomes = f"{each.get('created', 0.0):,.0f} created"
            outcomes += f", {each.get('given up', 0.0):,.0f} given up"
            per_second = f"{rate if active else 0:,.1f} users per second"
            yield card(f"Simulator {name}", state, outcomes, per_second)
        return
    live = state_of(counts).colour == "green"
    change = recent_change(counts, seen) if live else None
    # Without growth, users may still arrive: perhaps as many are deleted as are created.
    state = State("Unknown", "gray") if change is None else State("No growth seen", "orange")
    state = State("Users arrive", "green") if change and change.users > 0 else state
    rate_text = f"Net change per minute: {f'{change.per_minute:+,.1f}' if change else 'unknown'}"
    yield card("Simulator", state, rate_text, "No simulator reports its name")


def api_cards(seen: Latest[Look], state: State, look: Look | None) -> Iterator[str]:
    """Yield a card for each replica that responded in the last minute, and one for the store."""
    recent = {each.replica: each for at, each in seen.history if at > now() - 60} if look else {}
    for name, each in recent.items():
        up = f", up {(each.taken_at - each.started_at) / 60:,.0f} min" if each.started_at else ""
        latency = f"Latency of /health: {each.latency_seconds * 1000:.1f} ms"
        version = f"Version {each.metrics.version}{up}"
        yield card("User Management API", state, latency, f"Replica: {name}", version)
    if not look:
        yield card("User Management API", state, "Latency of /health: unknown", "Replica: unknown")
        yield card("Store", State("Unknown", "gray"), "Store: unknown", "Durable: unknown")
        return
    ready, numbers = look.readiness, look.metrics.numbers
    durable = "Durable: unknown" if ready.durable is None else DURABLE[ready.durable]
    lines = [f"Queue of {name}: {ratio:.0%} full" for name, ratio in look.metrics.queues.items()]
    if commits := numbers.get("store_commit_seconds_count"):
        seconds = numbers.get("store_commit_seconds_sum", 0.0) / commits
        lines.append(f"A commit takes {seconds * 1000:.1f} ms")
    store = State("Not ready", "orange") if look.not_ready else State("Ready", "green")
    yield card("Store", store, f"Store: {ready.store[:50]}", durable, *lines)


def show_work(seen: Latest[Look]) -> None:
    """Show requests, errors and durations over the chosen time."""
    minutes = st.segmented_control(
        "Minutes", MINUTES, default=5, required=True, key="minutes", bind="query-params",
        format_func=lambda each: f"{each} min", label_visibility="collapsed",
    ) or 5  # fmt: skip
    figures: dict[str, dict[str, Callable[[Reading], float | None]]] = {
        "Requests per second": {"": lambda each: each.more("requests") / (each.end - each.start)},
        "Failed requests in %": {"": lambda each: 100 * each.failed_share},
        "Duration in ms: p50, and p95 above it": {
            "p95": partial(percentile, 0.95),
            "p50": partial(percentile, 0.5),
        },
    }
    recent = readings(seen, minutes * 60, minutes * 60 / POINTS)
    for column, (name, lines) in zip(st.columns(3), figures.items(), strict=True):
        drawn = {
            label: [(each.end - now(), value) for each in recent if (value := of(each)) is not None]
            for label, of in lines.items()
        }
        with column.container(border=True, key=f"card-{name.split()[0]}"):
            st.markdown(f"**{name}**")
            charts.draw_lines(name, drawn, minutes)


def percentile(share: float, reading: Reading) -> float | None:
    """Return the duration in ms that a share of the requests did not exceed, or None.

    Within a bucket it is interpolated, as Prometheus does.
    """
    below = bottom = 0.0
    before = reading.before.buckets
    counts = [(top, n - before.get(top, 0.0)) for top, n in reading.after.buckets.items()]
    wanted = share * counts[-1][1] if counts else 0.0
    for top, count in counts:
        if wanted and count >= wanted:
            height = 0.0 if math.isinf(top) else top - bottom
            return (bottom + height * (wanted - below) / (count - below)) * 1000
        below, bottom = count, top
    return None
