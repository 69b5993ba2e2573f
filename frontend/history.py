"""What the responses say together: the net change in users, what happened, and the state now.

A net change is new users minus deleted users, from all clients. A restart empties a store in
memory, but no client deletes users then. So a restart is an event, and not a change.
"""

import re
from bisect import bisect
from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median_low
from typing import Any, NamedTuple

import streamlit as st

import charts
import widgets
from ages import GROUPS, AgeCounts, ages_text, world_share
from api_client import TICK_SECONDS, Latest, Poller, now
from monitor import LOOK_SECONDS, Look, state_of_api
from widgets import State

HISTORY_SECONDS = 900
STEP_SECONDS = 15
MINUTE_SECONDS = 60
BULK_USERS = 1_000  # between two responses, and five times the usual number
NET_CHANGE = "New users minus deleted users, from all clients. A restart of the API is an event."


class Change(NamedTuple):
    """The net change in a number of users, with its start and end in seconds."""

    start: float
    end: float
    users: int

    @property
    def per_minute(self) -> float:
        """The mean change, in users per minute."""
        return self.users / (self.end - self.start) * MINUTE_SECONDS


class Event(NamedTuple):
    """What happened to the system, with its start and end in seconds."""

    start: float
    end: float
    text: str
    bad: bool = True


def restarts(looks: Latest[Look]) -> list[float]:
    """Return when the API restarted, in seconds: each process tells its start."""
    found, last = list[float](), dict[str, tuple[float, Look]]()
    for at, look in looks.history:
        before_at, before = last.get(look.replica, (at, look))
        old, new = before.started_at, look.started_at
        # With several processes behind one name, the responses of two old ones are no restart.
        if old and new and new > max(old, before.taken_at - 1):
            found.append(max(before_at, at - max(0.0, look.taken_at - new)))
        last[look.replica] = at, look
    return sorted(found)


def changes(ages: Latest[AgeCounts], looks: Latest[Look]) -> list[Change]:
    """Return the change from each response to the next, oldest first, without the restarts."""
    broken_at = restarts(looks)
    return [
        Change(start, end, after.total - before.total)
        for (start, before), (end, after) in pairwise(ages.history)
        if end > max(start, now() - HISTORY_SECONDS)
        and bisect(broken_at, start) == bisect(broken_at, end)
    ]


def joined(parts: Sequence[Change]) -> Change:
    """Join one or more successive changes into one."""
    return Change(parts[0].start, parts[-1].end, sum(part.users for part in parts))


def recent_change(ages: Latest[AgeCounts], looks: Latest[Look]) -> Change | None:
    """Return the change in the last minute and since the last restart, or None if it is unknown."""
    since = max([now() - MINUTE_SECONDS, *restarts(looks)])
    recent = [(at, counts.total) for at, counts in ages.history if at >= since]
    if ages.error or not recent or recent[-1][0] - recent[0][0] < 1:
        return None
    return Change(recent[0][0], recent[-1][0], recent[-1][1] - recent[0][1])


def steps(parts: Sequence[Change]) -> list[Change]:
    """Join the changes that end in the same step; a finished step stays the same."""
    by_step = groupby(parts, lambda each: each.end // STEP_SECONDS)
    return [joined(list(each)) for _, each in by_step]


def events(ages: Latest[AgeCounts], looks: Latest[Look]) -> list[Event]:
    """Return what happened in the last HISTORY_SECONDS, oldest first."""
    found, parts = list[Event](), changes(ages, looks)
    good_at = [*(at for at, _ in ages.history), now()]
    for after, failures in groupby(ages.failures, lambda failure: bisect(good_at, failure[0])):
        start, kind = next(failures)
        end = good_at[min(after, len(good_at) - 1)]
        found.append(Event(start, end, f"{kind} {end - start:.0f} s"))
    for (_, before), (at, look) in pairwise(looks.history):
        old, new = ({f"{each.service} {each.kind}" for each in e.faults} for e in (before, look))
        found += [Event(at, at, f"Fault on: {fault}") for fault in sorted(new - old)]
        found += [Event(at, at, f"Fault off: {fault}", bad=False) for fault in sorted(old - new)]
    usual = median_low([0, *(abs(each.users) for each in parts)])
    for bulk, each in groupby(parts, lambda part: part.users >= max(BULK_USERS, 5 * usual)):
        if bulk:
            start, end, users = joined(list(each))
            found.append(Event(start, end, f"Bulk load {users:+,}", bad=False))
    for at in restarts(looks):
        near = [e for e in found if e.bad and e.start - LOOK_SECONDS <= at <= e.end + LOOK_SECONDS]
        for event in near[-1:]:
            found[found.index(event)] = event._replace(text=f"{event.text}, restarted")
        found += [] if near else [Event(at, at, "API restarted")]
    return sorted(each for each in found if each.end >= now() - HISTORY_SECONDS)


def trend(values: Sequence[float], least_span: float) -> str:
    """Return a sparkline as HTML if the values vary; its height is at least `least_span`."""
    low, high = min(values), max(values)
    if low == high:
        return ""
    share, step = 100 / max(high - low, least_span), 100 / (len(values) - 1)
    line = [f"{n * step:.0f}% {100 - (v - low) * share:.0f}%" for n, v in enumerate(values)]
    shape = f"polygon(0 100%, {', '.join(line)}, 100% 100%)"
    return f'<i class="trend" style="clip-path: {shape}"></i>'


def show_headline(ages: Latest[AgeCounts], looks: Latest[Look]) -> None:
    """Show the number of users, its rate, the usual figures, and each group's share."""
    change, counts, rate = recent_change(ages, looks), ages.history[-1][1], "<b>"
    if change:
        rate = '<b class="rising">\u25b2 ' if change.users > 0 else rate
        rate += f"{change.per_minute:+,.0f}/min"
    youngest, oldest = min(counts.users_by_age), max(counts.users_by_age)
    past = [each for _, each in ages.history[:: -(1 + len(ages.history) // 40)] if each.total][::-1]
    rate += f"</b>{trend([each.total for each in past], 20)}"
    figures = f"Median <b>{counts.median:g}</b> \u00b7 Mean <b>{counts.mean:.1f}</b>"
    figures += trend([each.mean for each in past], 1.0)
    figures += f" \u00b7 Range <b>{youngest}\u2013{oldest}</b>"
    tiles = ""
    for name, (first, last) in GROUPS.items():
        group, world = ages_text(first, last), world_share(first, last)
        share = counts.between(first, last).total / counts.total
        tiles += (
            f'<li class="{name.lower()}">{name} {group}<b>{share:.1%}</b>world {world:.1%}</li>'
        )
    users = f'<p class="users"><b>{counts.total:,}</b> users</p><p>{rate}<br>{figures}</p>'
    st.html(f'<div class="headline">{users}<ul>{tiles}</ul></div>')


def show_net_change(ages: Latest[AgeCounts], looks: Latest[Look]) -> None:
    """Show the net change per minute as bars, and what happened meanwhile."""
    happened, parts, last = events(ages, looks), steps(changes(ages, looks)), now()

    def row(each: Change | Event) -> dict[str, Any]:
        return {"From": round(each.start - last, 1), "To": round(each.end - last, 1)}  # 0 is now

    bars = [row(e) | {"Net change": e.users, "Per minute": round(e.per_minute, 1)} for e in parts]
    marks = [row(each) | {"Event": each.text, "Bad": each.bad} for each in happened]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Net change per minute**", help=NET_CHANGE, width="content")
        st.text(f"{sum(part.users for part in parts):+,} users in 15 minutes")
        charts.offer_numbers("Net change", bars, marks)
    alt = "Net change in users per minute, and what happened."
    charts.draw("Net change", {"bars": bars, "events": marks}, alt, 108)


def simulator_state(ages: Latest[AgeCounts], looks: Latest[Look]) -> State:
    """Return whether users arrive: as the simulators report it, or as the number of users grows."""
    if looks.value and not looks.error and (active := looks.value.active_simulators()):
        per_minute = sum(each.get("users", 0.0) for each in active.values()) * MINUTE_SECONDS
        return State(f"{per_minute:,.0f}/min", "green" if per_minute else "gray")
    if looks.error or not (change := recent_change(ages, looks)):
        return State("unknown", "gray")
    if change.users <= 0:  # users may still arrive: perhaps as many are deleted
        return State("no growth seen", "gray")
    return State(f"{change.per_minute:+,.0f}/min", "green")


@st.fragment(run_every=TICK_SECONDS)
def show_strip(ages_poller: Poller[AgeCounts], looks_poller: Poller[Look]) -> None:
    """Show the three services and their states in the header of every page."""
    # A request of the strip would make the live page wait for the next one.
    ages, looks = ages_poller.latest(0, TICK_SECONDS), looks_poller.latest(0)
    api, look = state_of_api(looks, ages), looks.value
    api = State(re.split(", | of", api.text)[0].removeprefix("API "), api.colour)
    if api.colour == "green" and look:
        api = State(f"{look.latency_seconds * 1000:.0f} ms", "green")
    # The browser shows the age of the last one when it has had no news for a while.
    states = {"Simulator": simulator_state(ages, looks), "API": api}
    states["Dashboard"] = State("up", "green", 0.0)
    for fault in look.faults if look else ():
        if (name := fault.service.capitalize()) in states and states[name].colour == "green":
            states[name] = State(f"{fault.kind} {fault.share:.0%}", "orange")
    cells = "".join(f"<li><b>{each}</b>{widgets.badge(states[each])}</li>" for each in states)
    with st.container(key="strip"):
        st.html(f'<b class="brand">Microservices lab</b><ol aria-label="Services">{cells}</ol>')
