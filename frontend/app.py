"""The dashboard: its start, its navigation, the live page, and the only file that imports all.

Streamlit imports it when the server starts, and runs it for each viewer, to draw one of the pages.
"""

import sys

import streamlit as st
from starlette.middleware import Middleware

import charts
import frame
import widgets
from ages import OVERFLOW_AGE_YEARS, AgeCounts
from api_client import TICK_SECONDS, ApiClient, Poller
from history import show_headline, show_net_change, show_strip
from monitor import LOOK_SECONDS, Look, fetch_counts, fetch_look
from settings import Settings, SettingsError, read_settings
from system_page import system_page
from users_page import forget_users, users_page

OUTLINE = "The line is the world's population, from which the simulator draws: as many people."

try:
    settings = read_settings()
except SettingsError as error:
    print(error, file=sys.stderr)
    sys.exit(2)


@st.cache_resource(show_spinner=False)
def shared(settings: Settings) -> tuple[ApiClient, Poller[AgeCounts], Poller[Look]]:
    """Return what all viewers share: the client, and the pollers of the ages and of the system."""
    api = ApiClient(settings.api_url, settings.api_token)
    looks = Poller(lambda: fetch_look(api, settings.faults_url), LOOK_SECONDS)
    return api, Poller(lambda: fetch_counts(api)), looks


@st.fragment(run_every=TICK_SECONDS)
def show_live(ages: Poller[AgeCounts], system: Poller[Look]) -> None:
    """Show the ages of the users. The page redraws itself every TICK_SECONDS."""
    with st.container(horizontal=True, key="head"):
        title = st.container(width="content")
        refresh_seconds = widgets.choose("Refresh", widgets.REFRESH_SECONDS, 2.0, "refresh")
    latest, looks = widgets.newest(ages, refresh_seconds), system.latest(0)
    with title:
        state = widgets.state_of(latest, refresh_seconds)
        widgets.show_title("Ages of the users", "How old the users are, counted by the API", state)
    with st.container(key="errors"):  # always there, so that nothing below it is built again
        if latest.error:
            widgets.show_error(latest.error, widgets.next_request(refresh_seconds, latest.error))
    if (counts := latest.value) and counts.total:
        show_headline(latest, looks)
        with st.container(key="card-ages", border=True):
            show_histogram(counts)
        with st.container(key="card-change", border=True):
            show_net_change(latest, looks)
    elif counts and not latest.error:
        widgets.show_empty()


def show_histogram(counts: AgeCounts) -> None:
    """Show the bars with their controls: bin width and selected ages."""
    row = st.container(horizontal=True, vertical_alignment="center", key="controls")
    chart = st.container(key="chart")  # filled last: the slider below it selects the pale bars
    with row:
        widths = {1: "1", 2: "2", 5: "5", 10: "10"}
        width_years = widgets.choose("Bin width in years", widths, 5, "bin")
    with st.container(key="slider"):
        chosen = st.slider(
            "Ages", 0, OVERFLOW_AGE_YEARS, (0, OVERFLOW_AGE_YEARS), key="ages",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
    first, last = sorted(chosen)  # a URL may have them in the wrong order
    with chart:
        numbers = charts.draw_histogram(counts, width_years, (first, last))
    with row:
        st.text(widgets.selected_text(counts, first, last), help=OUTLINE)
        charts.offer_numbers("Ages", numbers)


if __name__ == "__main__":  # Streamlit runs this file for a viewer
    st.set_page_config(page_title="User dashboard", layout="wide")
    common = shared(settings)
    presenting = st.query_params.get("view") == "tv"
    # No icons: Streamlit fetches a page's icon from the internet.
    live = st.Page(lambda: show_live(*common[1:]), title="Live", url_path="live", default=True)
    users = st.Page(lambda: users_page(*common[:2]), title="Users", url_path="users")
    system = st.Page(lambda: system_page(*common), title="System", url_path="system")
    page = st.navigation([live, users, system], position="hidden" if presenting else "top")
    show_strip(*common[1:])
    if page is not users:
        forget_users()  # a viewer who returns to it sees new data
    page.run()
else:  # the server starts
    streamlit = st  # `streamlit run` recognises the next line by this name
    public = Middleware(frame.PublicAddresses, urls=settings.public_urls)
    app = streamlit.App(
        "app.py", routes=frame.routes("live", "users", "system"), middleware=[public]
    )
