"""The dashboard: how old the users are, who they are, and how the system is, as it is now.

Streamlit imports this file once, when the server starts, and finds `app` at its end. For each
visitor it then runs the file again, as a script, which draws one of the pages.
"""

import sys

from dialogs import forget_listing
from live import live_page
from parts import st
from people import people_page
from settings import SettingsError, read_settings
from system import system_page

try:
    settings = read_settings()
except SettingsError as error:
    print(error, file=sys.stderr)
    sys.exit(2)


def live() -> None:
    """How old the users are: the page that opens first."""
    live_page(settings)


def users() -> None:
    """Who the users are."""
    people_page(settings)


def system() -> None:
    """How the three services are."""
    system_page(settings)


if __name__ == "__main__":  # a visitor
    st.set_page_config(page_title="User dashboard", layout="wide")
    # No icons: Streamlit fetches a page's icon from the internet.
    page = st.navigation(
        [
            st.Page(live, title="Live", default=True),
            st.Page(users, title="Users"),
            st.Page(system, title="System"),
        ],
        position="top",
    )
    if page.title != "Users":
        forget_listing()  # whoever comes back sees the users as they are then
    page.run()
else:  # the start of the server, which a mistake in the settings has ended by now
    streamlit = st  # `streamlit run` recognises the next line by this name
    app = streamlit.App("app.py")
