"""What the pages say: the state of what is shown, and numbers as people say them."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from calls import ApiState
from faults import ApiFault, ApiUnreachable
from feed import TICK_SECONDS, Latest
from schema import AgeCounts, Listing

LABELS = {"user_id": "Id", "name": "Name", "age": "Age in years"}  # of what is typed
_LABELLED = re.compile(r"(?:(?<=^)|(?<=; ))(?:user_id|name|age)(?=: )")

Colour = Literal["red", "orange", "green", "gray", "blue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far what is shown can be trusted, in a few words, an icon and a colour."""

    words: str
    icon: str
    colour: Colour


def state(latest: Latest[Any], every_seconds: float, paused: bool = False) -> State:
    """Return the state of a page that asks for news `every_seconds`; infinite means never."""
    ago = time_ago(latest.seconds_old)
    if latest.fault:
        return _of_fault(latest.fault, f", last answer {ago}" if latest.answer else "")
    if latest.answer is None:
        return State(words="Loading", icon="hourglass_top", colour="gray")
    if paused:
        return State(words=f"Paused, updated {ago}", icon="pause", colour="blue")
    if math.isinf(every_seconds):
        return State(words=f"Off, updated {ago}", icon="sync_disabled", colour="blue")
    if is_stale(latest, every_seconds):
        return State(words=f"Stale, last answer {ago}", icon="hourglass_top", colour="orange")
    return State(words=f"Live, updated {ago}", icon="sensors", colour="green")


def is_stale(latest: Latest[Any], every_seconds: float = TICK_SECONDS) -> bool:
    """Tell whether the last answer is older than one of a page that asks so often should be."""
    return latest.seconds_old > every_seconds + 2 * TICK_SECONDS


def listing_state(loaded: Listing | ApiFault, loaded_at: datetime) -> State:
    """Return the state of users that were loaded at a time of the visitor's day."""
    if isinstance(loaded, ApiFault):
        return _of_fault(loaded)
    # Not how long ago: that page does not redraw itself.
    return State(words=f"Loaded at {loaded_at:%H:%M:%S}", icon="schedule", colour="gray")


def api_state(probed: Latest[ApiState]) -> State:
    """Return the state of the API as its probes tell it."""
    api = probed.answer
    if fault := probed.fault or (api.not_alive if api else None):
        return _of_fault(fault)
    if api is None:
        return State(words="Loading", icon="hourglass_top", colour="gray")
    if is_stale(probed):
        return state(probed, TICK_SECONDS)
    if api.not_ready:
        return State(words="Alive, not ready", icon="pending", colour="orange")
    return State(words="Alive and ready", icon="check_circle", colour="green")


def worse(one: State, other: State) -> State:
    """Return the first of two states that is not all well, the first if both are."""
    return other if one.colour == "green" != other.colour else one


def simulator_state(latest: Latest[AgeCounts], arrived: tuple[int, float] | None) -> State:
    """Return what can be told of the simulator, which is seen by what arrives at the API alone."""
    if latest.fault or arrived is None:
        return State(words="Unknown", icon="help", colour="gray")
    if arrived[0] > 0:
        return State(words="Users arrive", icon="check_circle", colour="green")
    # As many may be deleted as arrive, so it is not known that nothing does.
    return State(words="No growth seen", icon="pause_circle", colour="orange")


def _of_fault(fault: ApiFault, since: str = "") -> State:
    icon = "cloud_off" if isinstance(fault, ApiUnreachable) else "error"
    return State(words=fault.badge + since, icon=icon, colour="red")


def fault_lines(fault: ApiFault, in_its_words: bool) -> tuple[list[str], list[str]]:
    """Return what is known of a fault as lines of plain text: what to read first, and the rest.

    First come the reason, or what the API said of what was typed, and what to do.
    """
    to_do, address = f"What to do: {fault.hint}", f"Address tried: {fault.url}"
    if in_its_words and fault.detail:
        said = _LABELLED.sub(lambda name: LABELS[name[0]], fault.detail)
        return [said, to_do], [fault.reason, address]
    said_too = [f"In its words: {fault.detail}"] if fault.detail else []
    return [fault.reason, to_do], [*said_too, address]


def asked_again(every_seconds: float) -> str:
    """Say when a page asks for news again."""
    if math.isinf(every_seconds):
        return "It is asked again when you resume or refresh."
    return f"It is asked again every {every_seconds:g} seconds, and the page goes on by itself."


def time_ago(seconds: float) -> str:
    """Return how long ago something was, as people say it: `4 s ago`, `3 min ago`, `2 h ago`."""
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 3600 else f"{seconds / 3600:.0f} h ago"


def how_many(number: int, thing: str) -> str:
    """Return `1 user`, `1,200 users`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
