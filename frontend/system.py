"""The system page: the three services as a picture, with their state as it is now."""

from calls import ApiState
from charts import call_arrow
from faults import ApiFault, ApiUnreachable
from feed import TICK_SECONDS, Latest
from history import change, intervals, sampled
from parts import (
    shared_feed,
    shared_probe,
    show_fault,
    show_state,
    show_title,
    show_trend,
    st,
    totals,
)
from schema import AgeCounts, Readiness
from settings import Settings
from words import (
    State,
    api_state,
    asked_again,
    is_stale,
    simulator_state,
    state,
    time_ago,
    worse,
)

ARRIVAL_SECONDS = 60
NET_CHANGE = "Net change per minute"
SAYS_NOT = "it does not say which replica"
WAIT_SECONDS = 0.25  # for each of two feeds, before a redraw shows what is known
RUNNING = State(words="Running", icon="check_circle", colour="green")


@st.fragment(run_every=TICK_SECONDS)
def system_page(settings: Settings) -> None:
    """Show what sends, what keeps and what shows. It redraws itself every TICK_SECONDS."""
    latest = shared_feed(settings).latest(WAIT_SECONDS)
    probed = shared_probe(settings).latest(WAIT_SECONDS)
    arrived = None if is_stale(latest) else change(totals(latest), ARRIVAL_SECONDS)
    api_now = api_state(probed)
    show_title("The system", worse(state(latest, TICK_SECONDS), api_now))
    simulator, posts, api, asks, dashboard = st.columns(
        [5, 2, 5, 2, 5], gap="small", vertical_alignment="center"
    )
    with simulator.container(border=True, height="stretch", gap="small"):
        show_simulator(latest, arrived)
    broken = api_now.colour == "red"
    rate = f"{per_minute(arrived):+,.0f} / min" if arrived and not broken else ""
    answered = time_ago(latest.seconds_old) if latest.history else ""
    posts.html(call_arrow("POST /users/", rate, backwards=False, broken=broken))
    with api.container(border=True, height="stretch", gap="small"):
        show_api(probed, api_now)
    asks.html(call_arrow("GET /stats/ages", answered, backwards=True, broken=bool(latest.fault)))
    with dashboard.container(border=True, height="stretch", gap="small"):
        show_dashboard(settings)
    for fault in faults(latest, probed):
        show_fault(fault, asked_again(TICK_SECONDS))


def show_simulator(latest: Latest[AgeCounts], arrived: tuple[int, float] | None) -> None:
    """Say what the simulator sends, as far as it can be seen from the API."""
    st.header("Simulator", anchor=False)
    show_state(simulator_state(latest, arrived))
    if arrived is None or latest.fault:
        st.metric(NET_CHANGE, "\N{EN DASH}")
    else:
        st.metric(NET_CHANGE, f"{per_minute(arrived):+,.1f}")
        show_trend([(each.end, each.per_minute) for each in intervals(totals(latest))])
        st.text(f"Users created less deleted in the last {arrived[1]:.0f} s, whoever did it")


def per_minute(change: tuple[int, float]) -> float:
    """Return the rate of a net change over some seconds."""
    return change[0] / change[1] * 60


def show_api(probed: Latest[ApiState], now: State) -> None:
    """Say how the API is, and what it tells of itself."""
    st.header("User Management API", anchor=False)
    show_state(now)
    api = probed.answer or ApiState()
    if api.latency_seconds and not is_stale(probed):
        st.metric("Latency of /health", f"{api.latency_seconds * 1000:.1f} ms")
        past = sampled(probed.history)
        show_trend([(at, each.latency_seconds) for at, each in past if each.latency_seconds])
    else:
        st.metric("Latency of /health", "\N{EN DASH}")
    silent = "nobody" if isinstance(api.not_alive, ApiUnreachable) else SAYS_NOT
    st.text(f"Version: {api.version or 'unknown'}")
    st.text(f"Answered by: {api.served_by or silent}")
    st.text("\N{DOWNWARDS ARROW} keeps the users in", width="stretch", text_alignment="center")
    with st.container(border=True, gap="xsmall"):
        for line in store_lines(api):
            st.text(line)


def store_lines(api: ApiState) -> list[str]:
    """Return what the API tells of its store, as lines of plain text."""
    kept = {
        True: "Users outlive a restart",
        False: "Users are lost when the API stops",
        None: "Durable: unknown",
    }
    readiness = api.readiness or Readiness(store=None, durable=None)
    return [f"Store: {readiness.store or 'unknown'}", kept[readiness.durable]]


def show_dashboard(settings: Settings) -> None:
    """Say what this dashboard is, and whom it asks."""
    st.header("Dashboard", anchor=False)
    show_state(RUNNING)
    st.metric("Asks every", f"{TICK_SECONDS} s")
    st.text("The same requests for one who looks as for twenty, none when nobody does")
    st.text(f"Streamlit {st.__version__}")
    st.text(f"Asks {settings.api_url}")


def faults(latest: Latest[AgeCounts], probed: Latest[ApiState]) -> list[ApiFault]:
    """Return what is wrong, one sentence of it once."""
    api = probed.answer or ApiState()
    found = [latest.fault, probed.fault, api.not_alive, api.not_ready]
    return list({each.reason: each for each in reversed(found) if each}.values())[::-1]
