"""The dashboard: its start, its navigation, and the only file that imports all others.

Streamlit imports it when the server starts, and runs it for each viewer, to draw one of the pages.
"""

import sys

import streamlit as st

import widgets
from ages import AgeCounts
from api_client import TICK_SECONDS, ApiClient, Poller
from history import show_cards, show_net_change
from live_page import show_histogram
from settings import Settings, SettingsError, read_settings
from system_page import ApiHealth, check_health, system_page
from users import fetch_counts
from users_page import forget_users, users_page

try:
    settings = read_settings()
except SettingsError as error:
    print(error, file=sys.stderr)
    sys.exit(2)


@st.cache_resource(show_spinner=False)
def shared(settings: Settings) -> tuple[ApiClient, Poller[AgeCounts], Poller[ApiHealth]]:
    """Return what all viewers share: the client and the pollers of the ages and of the health."""
    api = ApiClient(settings.api_url, settings.api_token)
    return api, Poller(lambda: fetch_counts(api)), Poller(lambda: check_health(api))


@st.fragment(run_every=TICK_SECONDS)
def show_live(api: ApiClient, ages: Poller[AgeCounts]) -> None:
    """Show the ages of the users. The page redraws itself every TICK_SECONDS."""
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        title = st.container(width="content")
        refresh_seconds = widgets.choose_refresh_seconds()
    latest = widgets.newest(ages, refresh_seconds)
    with title:
        widgets.show_title("Ages of the users", widgets.state_of(latest, refresh_seconds))
    with st.container():  # always there, so that nothing below it moves
        if latest.error:
            widgets.show_error(latest.error, widgets.next_request(refresh_seconds))
    if (counts := latest.value) and counts.total:
        with st.container(key="numbers"):
            show_cards(latest)
            show_histogram(counts)
            show_net_change(latest)
    elif counts and not latest.error:
        widgets.show_empty()
    if counts:
        widgets.show_source(api, counts)


if __name__ == "__main__":  # Streamlit runs this file for a viewer
    st.set_page_config(page_title="User dashboard", layout="wide")
    api, ages, health = shared(settings)
    # No icons: Streamlit fetches a page's icon from the internet.
    live = st.Page(lambda: show_live(api, ages), title="Live", url_path="live", default=True)
    users = st.Page(lambda: users_page(api), title="Users", url_path="users")
    system = st.Page(lambda: system_page(api, ages, health), title="System", url_path="system")
    page = st.navigation([live, users, system], position="top")
    if page is not users:
        forget_users()  # a viewer who returns to it sees new data
    page.run()
else:  # the server starts
    streamlit = st  # `streamlit run` recognises the next line by this name
    app = streamlit.App("app.py")
