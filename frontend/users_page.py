"""The users page: one page of the API's listing, to search, change and download."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import streamlit as st

from api_client import TOTAL_TIMEOUT_SECONDS, ApiClient, ApiError
from users import (
    MAX_EXPORT_USERS,
    Listing,
    User,
    as_csv,
    as_json,
    fetch_all,
    fetch_page,
    fetch_user,
    user_url,
    write_error,
)
from widgets import State, error_state, how_many, show_error, show_reason, show_title

PAGE_USERS = 100
WRITE_SECONDS = 3.5  # the rest of TOTAL_TIMEOUT_SECONDS is for the users after a write
CHECK_EVERY_SECONDS = 60  # for which it is believed that the API accepts or refuses our writes
LABELS = {"user_id": "Id", "name": "Name", "age": "Age in years"}
WRITE_HINTS = {
    401: "Start the dashboard with the API_TOKEN that the API was started with.",
    403: "The API refuses writes from other sites: check which Origin a proxy adds.",
    404: "Another client deleted this user: close this and reload.",
    409: "Choose another id, or change the user who has this one.",
    422: "Correct the field that the message names.",
    507: "Delete users, or start the API with a larger MAX_USERS.",
}
RELOAD_LATER = "This page sends no request by itself: follow the hint, then reload."
UNCERTAIN = "It is not known whether anything was changed. Close this, reload, and look."

T = TypeVar("T")


@st.cache_resource(ttl=CHECK_EVERY_SECONDS, show_spinner=False)
def shared_write_error(_api: ApiClient, users_url: str) -> ApiError | None:  # noqa: ARG001 - a key
    """Return why the API would refuse a write; all viewers share it."""
    return write_error(_api)


def users_page(api: ApiClient) -> None:
    """Show a page of users, or the one user whose id is searched for."""
    head, notes = st.container(), st.container()  # what is below them keeps its place and focus
    with notes:
        loaded = load_users(api)
    refused: ApiError | None = st.session_state.get("refused")
    if isinstance(loaded, Listing) and not refused and "done" not in st.session_state:
        refused = shared_write_error(api, api.users_url)
    with head:
        loaded_at = f"Loaded at {st.session_state.loaded_at:%H:%M:%S}"
        error = loaded if isinstance(loaded, ApiError) else None
        show_title("Users", error_state(error) if error else State(loaded_at, "schedule", "gray"))
    with notes:
        show_notes(api, refused)
    with st.container(horizontal=True):
        args = ("Add a user", edit_dialog, None)
        icon = ":material/person_add:"
        st.button("Add a user", icon=icon, disabled=bool(refused), on_click=open_dialog, args=args)
        st.button("Reload", icon=":material/refresh:", on_click=forget_users)
    show_dialog(api)
    shown = show_search(loaded.users if isinstance(loaded, Listing) else [])
    if isinstance(loaded, ApiError):
        show_error(loaded, RELOAD_LATER)
        return
    selected = show_users(shown, loaded)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        show_changes(selected, read_only=bool(refused))
        show_paging(loaded, len(shown))
    if loaded.unreadable_rows:
        st.text(f"{how_many(loaded.unreadable_rows, 'row')} could not be read.")
    show_downloads(api, shown)


def forget_users() -> None:
    """Load the users again the next time they are shown."""
    for name in ("listing", "export", "refused"):
        st.session_state.pop(name, None)
    close_dialog()


def attempt(work: Callable[[], T]) -> T | ApiError:
    """Return what `work` returns, or the ApiError that it raises."""
    try:
        return work()
    except ApiError as error:
        return error.with_traceback(None)


def load_users(api: ApiClient) -> Listing | ApiError:
    """Return this viewer's users, from the API if none are loaded."""
    if "listing" not in st.session_state:
        after = st.session_state.setdefault("pages", [None])[-1]
        deadline = st.session_state.pop("deadline", time.monotonic() + TOTAL_TIMEOUT_SECONDS)
        with st.spinner("Waiting for the API"):
            st.session_state.listing = attempt(lambda: fetch_users(api, after, deadline))
        behind_utc = timedelta(minutes=st.context.timezone_offset or 0)  # of the viewer
        st.session_state.loaded_at = datetime.now(UTC) - behind_utc
    loaded: Listing | ApiError = st.session_state.listing
    return loaded


def fetch_users(api: ApiClient, after: int | None, deadline: float) -> Listing:
    """Return the user who is searched for, or else the page after an id. Raises ApiError."""
    wanted = wanted_id()
    if not wanted:
        return fetch_page(api, after, PAGE_USERS, deadline)
    if not re.fullmatch("[0-9]{1,16}", wanted):
        return Listing([])  # perhaps a name, which must not get into an address
    return fetch_user(api, int(wanted), deadline)


def wanted_id() -> str:
    """Return the id that is searched for, or an empty string."""
    return str(st.session_state.get("id", "")).strip()


def show_notes(api: ApiClient, refused: ApiError | None) -> None:
    """Say what was done, and why nothing can be changed."""
    if done := st.session_state.pop("done", None):
        st.success(done, icon=":material/check:")
    if refused:
        with st.container(border=True, gap="small"):
            st.info("You can see users, but not add, change or delete them.", title="Read-only")
            show_reason(refused, write_hint(api, refused))


def write_hint(api: ApiClient, error: ApiError) -> str:
    """Return what to do about a write that was refused."""
    if error.status == 401 and api.token:
        return "The API does not accept this API_TOKEN. Start the dashboard with the API's own."
    return WRITE_HINTS.get(error.status or 0, "")


def show_search(users: list[User]) -> list[User]:
    """Return the loaded users that match the filter."""
    by_id, by_text = st.columns(2)
    by_id.text_input(
        "Find by id (among all users)",
        key="id",
        type="search",
        placeholder="123",
        on_change=forget_users,
    )
    label, example = "Filter this page by name or age", "alice, or 30"
    text = by_text.text_input(label, key="filter", type="search", placeholder=example)
    text = text.strip().casefold()
    return [each for each in users if text in each.name.casefold() or text == str(each.age)]


def show_users(users: list[User], loaded: Listing) -> User | None:
    """Show the users as a table, and return the selected one, or the only one."""
    if not users:
        if loaded.users:
            st.info("No user on this page matches the filter.", title="No users to show")
        elif wanted_id():
            st.info("The search is among all users.", title="No user has this id")
        else:
            st.info("There are no users on this page. You can add one.", title="No users to show")
        return None
    event = st.dataframe(
        {
            "Id": [user.user_id for user in users],
            "Age": [user.age for user in users],
            "Name": [user.name for user in users],  # last: a long one hides nothing on a phone
        },
        column_config={
            "Id": st.column_config.NumberColumn(format="%d", alignment="left"),
            "Age": st.column_config.NumberColumn(width="small", alignment="left"),
        },
        # Other users are another table: a row that was selected in one must not stay selected.
        key=f"users {hash(tuple(users))}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        alt="The users of this page by id, with name and age in years",
    )
    rows = event.selection.rows
    return users[rows[0]] if rows else users[0] if len(users) == 1 else None


def show_changes(selected: User | None, read_only: bool) -> None:
    """Offer to change or delete the selected user."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        for label, dialog in (("Edit", edit_dialog), ("Delete", delete_dialog)):
            st.button(
                label,
                icon=f":material/{label.lower()}:",
                disabled=read_only or selected is None,
                on_click=open_dialog,
                args=(f"{label} user {selected.user_id if selected else ''}", dialog, selected),
            )
        st.text(f"User {selected.user_id} is selected." if selected else "Select a row.")


def show_paging(loaded: Listing, shown: int) -> None:
    """Say which users are loaded, and offer the page before and after."""
    pages: list[int | None] = st.session_state.pages
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        if wanted_id():
            st.text("Found among all users." if loaded.users else "")
            return
        first, last = len(pages) == 1, loaded.next_after is None
        st.button("Previous", disabled=first, on_click=turn_to, args=(pages[:-1],))
        part = f"{shown:,} of " if shown < len(loaded.users) else ""
        st.text(f"Page {len(pages)}, {part}{how_many(len(loaded.users), 'user')}")
        st.button("Next", disabled=last, on_click=turn_to, args=([*pages, loaded.next_after],))


def turn_to(pages: list[int | None]) -> None:
    """Show the page after the last of these ids; the others are the pages before."""
    st.session_state.pages = pages
    forget_users()


def show_downloads(api: ApiClient, shown: list[User]) -> None:
    """Offer the shown users, and all users up to a limit, as files."""
    with st.expander("Download", icon=":material/download:"):
        st.text("In CSV, an apostrophe is put before text that a spreadsheet would run.")
        offer(f"The {how_many(len(shown), 'user')} shown", "shown", shown)
        if st.button(f"Collect all users, up to {MAX_EXPORT_USERS:,}"):
            st.session_state.export = attempt(lambda: fetch_all(api))
        export: Listing | ApiError | None = st.session_state.get("export")
        if isinstance(export, ApiError):
            show_error(export, "Nothing was collected. Try again later.")
        elif export:
            part = "all there are" if export.next_after is None else "the first by id"
            unreadable = f"{how_many(export.unreadable_rows, 'row')} could not be read"
            offer(
                f"{how_many(len(export.users), 'user')}: {part}; {unreadable}", "all", export.users
            )


def offer(label: str, name: str, users: list[User]) -> None:
    """Offer some users as a file in both formats."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{label}:", width="content")
        for suffix, media_type, content in (
            ("csv", "text/csv", as_csv),
            ("json", "application/json", as_json),
        ):
            st.download_button(
                suffix.upper(),
                content(users),
                f"users-{name}.{suffix}",
                media_type,
                key=f"{name} {suffix}",
                on_click="ignore",
            )


def open_dialog(title: str, dialog: Callable[..., None], user: User | None) -> None:
    """Open a dialog about a user, until it has done its work or is dismissed."""
    close_dialog()
    st.session_state.dialog = (title, dialog, user)


def close_dialog() -> None:
    """Close the dialog, and forget what it did."""
    for name in ("dialog", "writing", "failed"):
        st.session_state.pop(name, None)


def show_dialog(api: ApiClient) -> None:
    """Show the dialog that is open."""
    if opened := st.session_state.get("dialog"):
        title, dialog, user = opened
        st.dialog(title, on_dismiss=close_dialog)(dialog)(api, user)


def edit_dialog(api: ApiClient, user: User | None) -> None:
    """Ask for a new user, or for the new name and age of a user."""
    with st.form("user", border=False):
        user_id = st.text_input(
            LABELS["user_id"], value=str(user.user_id) if user else "", disabled=bool(user)
        )
        name = st.text_input(LABELS["name"], value=user.name if user else "")
        # Without limits: the API checks the age. Two messages would stand side by side.
        age = st.number_input(LABELS["age"], value=user.age if user else 30)
        label = "Save" if user else "Create"
        st.form_submit_button(label, type="primary", disabled=writing(), on_click=begin_write)
    params: dict[str, str | int] = {"name": name, "age": age}
    if user:
        done = f"User {user.user_id} was changed."
        write(api, "PUT", user_url(api, user.user_id), params, done)
    else:
        write(api, "POST", api.users_url, {"user_id": user_id, **params}, "The user was created.")


def delete_dialog(api: ApiClient, user: User) -> None:
    """Ask whether a user is to be deleted."""
    st.text(f"User {user.user_id}: {user.name}, {user.age} years old.")
    st.text("This cannot be undone.")
    with st.container(horizontal=True):
        st.button("Delete for good", type="primary", disabled=writing(), on_click=begin_write)
        if st.button("Keep", disabled=writing()):
            close_dialog()
            st.rerun()
    done = f"User {user.user_id} was deleted."
    write(api, "DELETE", user_url(api, user.user_id), {}, done)


def begin_write() -> None:
    """Let the next run write, once: until then the buttons of the dialog are off."""
    st.session_state.writing = True
    st.session_state.pop("failed", None)


def writing() -> bool:
    """Tell whether this run writes."""
    return bool(st.session_state.get("writing"))


def write(api: ApiClient, method: str, url: str, params: dict[str, str | int], done: str) -> None:
    """Write if the button was clicked, and show the users; or show why the last try failed."""
    if failed := st.session_state.get("failed"):
        next_step = "Nothing was changed." if failed.kind == "API refuses" else UNCERTAIN
        show_error(failed, next_step, write_hint(api, failed), LABELS)
    if not writing():
        return
    with st.spinner("Waiting for the API"):
        # All is stored before the spinner ends: a click may end this run at the next widget.
        st.session_state.writing = False
        deadline = time.monotonic() + TOTAL_TIMEOUT_SECONDS
        write_until = time.monotonic() + WRITE_SECONDS
        result = attempt(lambda: api.request(url, write_until, method, params))
        if not isinstance(result, ApiError):
            forget_users()
            st.session_state.done, st.session_state.deadline = done, deadline
        elif result.status in (401, 403):
            close_dialog()
            st.session_state.refused = result
        else:
            st.session_state.failed = result
    st.rerun()
