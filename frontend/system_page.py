"""The system page: a card for each simulator and replica, and the API's work as charts."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from html import escape

import streamlit as st

import charts
from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, Latest, Poller, now
from history import simulator_state
from monitor import LOOK_SECONDS, Look, Work, state_of_api, work
from widgets import State, badge, choose, next_request, show_error, show_title, state_of

POINTS = 60  # of a line
DURABLE = {"True": "Users survive a restart", "False": "Users are lost when the API stops"}


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
    cards = [*simulator_cards(look)] if look else []
    if not cards:
        arriving = simulator_state(counts, seen)
        text = "Users arrive" if arriving.colour == "green" else "It is not known if users arrive"
        cards.append(card("Simulator", arriving, text, "No simulator reports its name"))
    cards += [*api_cards(seen, state, look), card("Dashboard", State("Running", "green"), *about)]
    for fault in look.faults if look else ():
        whose = f"{fault.share:.0%} of the requests of the {fault.service}"
        strikes = f"{fault.strikes:,} disturbed so far"
        cards.append(card(f"Fault: {fault.kind}", State("On", "orange"), whose, strikes))
    st.html(f'<ul class="cards">{"".join(cards)}</ul>')
    if seen.value and seen.value.numbers:  # also when the API is down: the past stays
        show_work(seen)
    else:
        st.text("The API shows no metrics at /metrics, so there are no charts of its work.")


def card(title: str, state: State, *lines: str) -> str:
    """Return a service, its state and what it says as HTML. The lines are plain text."""
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f"<li><h2>{escape(title)}</h2>{badge(state)}{text}</li>"


def simulator_cards(look: Look) -> Iterator[str]:
    """Yield a card for each simulator that reports to the API."""
    for name, each in look.simulators.items():
        active = name in look.active_simulators()
        away = State("Silent for {}", "gray", look.taken_at - each.get("seen", 0.0))
        outcomes = f"{each.get('created', 0.0):,.0f} created"
        outcomes += f", {each.get('given up', 0.0):,.0f} given up"
        per_second = f"{each.get('users', 0.0) if active else 0:,.1f} users per second"
        state = State("Sends users", "green") if active else away
        yield card(f"Simulator {name.removeprefix('simulator-')}", state, outcomes, per_second)


def api_cards(seen: Latest[Look], state: State, look: Look | None) -> Iterator[str]:
    """Yield a card for each replica that responded in the last minute, and one for the store."""
    recent = {each.replica: each for at, each in seen.history if at > now() - 60} if look else {}
    for name, each in recent.items():
        up = f", up {(each.taken_at - each.started_at) / 60:,.0f} min" if each.started_at else ""
        latency = f"Latency of /health: {each.latency_seconds * 1000:.1f} ms"
        version = f"Version {each.version}{up}"
        yield card("User Management API", state, latency, f"Replica: {name}", version)
    if not look:
        yield card("User Management API", state, "Replica: unknown")
        yield card("Store", State("Unknown", "gray"), "Store: unknown")
        return
    numbers, stored = look.numbers, f"Store: {look.ready.get('store', 'unknown')}"[:60]
    durable = DURABLE.get(str(look.ready.get("durable")), "Durable: unknown")
    lines = [f"Queue of {name}: {ratio:.0%} full" for name, ratio in look.queues.items()]
    if commits := numbers.get("store_commit_seconds_count"):
        seconds = numbers.get("store_commit_seconds_sum", 0.0) / commits
        lines.append(f"A commit takes {seconds * 1000:.1f} ms")
    store = State("Not ready", "orange") if look.not_ready else State("Ready", "green")
    yield card("Store", store, stored, durable, *lines)


def show_work(seen: Latest[Look]) -> None:
    """Show requests, errors and durations over the chosen time."""
    minutes = choose("Minutes", {5: "5 min", 15: "15 min", 60: "60 min"}, 5, "minutes")
    recent = work(seen, minutes * 60, minutes * 60 / POINTS)
    rates = [("", each, each.requests / each.seconds) for each in recent]
    failed = [("", each, 100 * each.failed / max(1.0, each.requests)) for each in recent]
    busy = [each for each in recent if each.requests]
    times = [(f"p{part}", each, percentile(each, part / 100)) for part in (50, 95) for each in busy]
    figures = {"Requests per second": rates, "Failed requests in %": failed}
    figures["Duration in ms: p50, p95"] = times
    for column, (name, points) in zip(st.columns(3), figures.items(), strict=True):
        rows = [
            {"at": each.end - now(), "value": value, "line": label} for label, each, value in points
        ]
        with column.container(border=True, key=f"card-{name.split()[0]}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{name}**", width="content")
                charts.offer_numbers(name.partition(":")[0], rows)
            charts.draw("Lines", {"points": rows}, f"{name}; over {minutes} minutes.", 240, minutes)


def percentile(done: Work, share: float) -> float:
    """Return the duration in ms of the percentile, interpolated as Prometheus does."""
    tops, counts = [0.0, *done.buckets], [0.0, *done.buckets.values()]
    at = bisect_left(counts, wanted := share * counts[-1], 1, len(counts) - 1)
    part = (wanted - counts[at - 1]) / max(1.0, counts[at] - counts[at - 1])
    width = 0.0 if math.isinf(tops[at]) else tops[at] - tops[at - 1]
    return 1000 * (tops[at - 1] + part * width)
