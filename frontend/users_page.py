"""The users page: one page of the API's listing, to search, change and download."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import streamlit as st

import widgets
from api_client import ApiClient, ApiError, Latest
from users import Listing, User, as_csv, fetch_all, find_users, user_url, write_error

UNCERTAIN = "It is not known whether anything was changed. Close this, reload, and look."

T = TypeVar("T")
Dialog = Callable[[ApiClient, User | None], None]
# The next run of the page writes, once. Until this is done the dialog's button is disabled.
begin_write = partial(st.session_state.update, writing=True, failed=None)


def users_page(api: ApiClient) -> None:
    """Show a page of users, or the one user whose id is searched for."""
    head, notes = st.container(), st.container()  # what is below them keeps its place and focus
    with notes:
        loaded = load_users(api)
    error, listing = (loaded, Listing([])) if isinstance(loaded, ApiError) else (None, loaded)
    refused = None if error else write_error(api)
    state = widgets.State(f"Loaded at {st.session_state.loaded_at:%H:%M:%S}", "schedule", "gray")
    with head:
        widgets.show_title("Users", widgets.state_of(Latest(error=error)) if error else state)
    with notes:
        show_notes(refused)
    with st.container(horizontal=True):
        dialog_button("Add a user", "person_add", bool(refused), edit_dialog, None)
        st.button("Reload", icon=":material/refresh:", on_click=forget_users)
    if opened := st.session_state.get("dialog"):
        title, dialog, user = opened
        st.dialog(title, on_dismiss=lambda: st.session_state.pop("dialog"))(dialog)(api, user)
    shown = show_search(listing.users)
    if error:
        widgets.show_error(error, "This page sends no request by itself: reload it.")
        return
    selected = show_users(shown, listing)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            read_only = bool(refused) or selected is None
            dialog_button("Edit", "edit", read_only, edit_dialog, selected)
            dialog_button("Delete", "delete", read_only, delete_dialog, selected)
            st.text(f"User {selected.user_id} is selected." if selected else "Select a row.")
        show_paging(listing, len(shown))
    widgets.show_unreadable(listing.unreadable_rows)
    show_downloads(api, shown)


def attempt(work: Callable[[], T]) -> T | ApiError:
    """Return what `work` returns, or the ApiError that it raises."""
    try:
        return work()
    except ApiError as error:
        return error.with_traceback(None)


def load_users(api: ApiClient) -> Listing | ApiError:
    """Return this viewer's loaded users; if there are none, load them from the API."""
    if "listing" not in st.session_state:
        after = st.session_state.setdefault("pages", [None])[-1]
        with st.spinner("Waiting for the API"):
            st.session_state.listing = attempt(lambda: find_users(api, wanted(), after))
        behind_utc = timedelta(minutes=st.context.timezone_offset or 0)  # in the viewer's zone
        st.session_state.loaded_at = datetime.now(UTC) - behind_utc
    loaded: Listing | ApiError = st.session_state.listing
    return loaded


def forget_users() -> None:
    """Delete the loaded users, so that the next run loads them again; close the dialog."""
    for name in ("listing", "export", "dialog"):
        st.session_state.pop(name, None)


def wanted() -> str:
    """Return the id that is searched for, or an empty string."""
    return str(st.session_state.get("id", "")).strip()


def show_notes(refused: ApiError | None) -> None:
    """Show what was changed, and why this viewer cannot change users."""
    if done := st.session_state.pop("done", None):
        st.success(done, icon=":material/check:")
    if refused:
        with st.container(border=True, gap="small"):
            st.info("You can see users, but not add, change or delete them.", title="Read-only")
            widgets.show_reason(refused)


def show_search(users: list[User]) -> list[User]:
    """Show the search fields; return the loaded users that match the filter."""
    by_id, by_text = st.columns(2)
    label, example = "Find by id (among all users)", "123"
    by_id.text_input(label, key="id", type="search", placeholder=example, on_change=forget_users)
    label, example = "Filter this page by name or age", "alice, or 30"
    text = by_text.text_input(label, key="filter", type="search", placeholder=example)
    text = text.strip().casefold()
    return [each for each in users if text in each.name.casefold() or text == str(each.age)]


def show_users(users: list[User], listing: Listing) -> User | None:
    """Show the users as a table, and return the selected one, or the only one."""
    if not users:
        empty = "No user has this id." if wanted() else "There are no users on this page."
        filtered = "No user on this page matches the filter."
        st.info(filtered if listing.users else empty, title="No users to show")
        return None
    event = st.dataframe(
        {
            "Id": [user.user_id for user in users],
            "Age": [user.age for user in users],
            "Name": [user.name for user in users],  # last: a long name hides no other column
        },
        column_config={
            "Id": st.column_config.NumberColumn(format="%d", alignment="left"),
            "Age": st.column_config.NumberColumn(width="small", alignment="left"),
        },
        # Other users get another key: else the row with the same number would stay selected.
        key=f"users {hash(tuple(users))}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        alt="The users of this page by id, with name and age in years",
    )
    rows = event.selection.rows
    return users[rows[0]] if rows else users[0] if len(users) == 1 else None


def show_paging(listing: Listing, shown: int) -> None:
    """Say which users are loaded, and offer the pages before and after."""
    pages: list[int | None] = st.session_state.pages
    first, last = len(pages) == 1 or bool(wanted()), listing.next_after is None
    part = f"{shown:,} of " if shown < len(listing.users) else ""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.button("Previous", disabled=first, on_click=turn_to, args=(pages[:-1],))
        page = "Found by id" if wanted() else f"Page {len(pages)}"
        st.text(f"{page}, {part}{widgets.how_many(len(listing.users), 'user')}")
        st.button("Next", disabled=last, on_click=turn_to, args=([*pages, listing.next_after],))


def turn_to(pages: list[int | None]) -> None:
    """Show the page after the last of these ids; the other ids are for the previous pages."""
    st.session_state.pages = pages
    forget_users()


def show_downloads(api: ApiClient, shown: list[User]) -> None:
    """Offer the shown users, and all users up to a limit, as files."""
    with st.expander("Download", icon=":material/download:"):
        st.text("In CSV, an apostrophe is put before text that a spreadsheet would run.")
        offer(f"CSV: {widgets.how_many(len(shown), 'user')} shown", "users-shown.csv", shown)
        if st.button("Collect all users"):
            st.session_state.export = attempt(lambda: fetch_all(api))
        export: Listing | ApiError | None = st.session_state.get("export")
        if isinstance(export, ApiError):
            widgets.show_error(export, "Nothing was collected. Try again later.")
        elif export:
            label = f"CSV: all {widgets.how_many(len(export.users), 'user')}"
            offer(label, "users-all.csv", export.users)
            widgets.show_unreadable(export.unreadable_rows)


def offer(label: str, file: str, users: list[User]) -> None:
    """Offer some users as a file. It is made when the viewer clicks."""
    data = partial(as_csv, users)
    st.download_button(label, data, file, "text/csv", key=file, on_click="ignore")


def dialog_button(label: str, icon: str, disabled: bool, dialog: Dialog, user: User | None) -> None:
    """Show a button that opens a dialog. A successful write or the viewer closes the dialog."""
    title = f"{label} user {user.user_id}" if user else label
    dialog_state = {"dialog": (title, dialog, user), "writing": False, "failed": None}
    open_dialog = partial(st.session_state.update, dialog_state)
    st.button(label, icon=f":material/{icon}:", disabled=disabled, on_click=open_dialog)


def edit_dialog(api: ApiClient, user: User | None) -> None:
    """Ask for a new user, or for the new name and age of a user."""
    with st.form("user", border=False):
        user_id = st.text_input("Id", str(user.user_id) if user else "", disabled=bool(user))
        name = st.text_input("Name", user.name if user else "")
        # No limits here: the API checks the age. With limits the viewer could get two messages.
        age = st.number_input("Age in years", value=user.age if user else 30)
        label, off = "Save" if user else "Create", st.session_state.writing
        st.form_submit_button(label, type="primary", disabled=off, on_click=begin_write)
    params: dict[str, str | int] = {"name": name, "age": age}
    if user:
        done = f"User {user.user_id} was changed."
        write(api, "PUT", user_url(api, user.user_id), params, done)
    else:
        write(api, "POST", api.users_url, {"user_id": user_id, **params}, "The user was created.")


def delete_dialog(api: ApiClient, user: User | None) -> None:
    """Ask the viewer to confirm that a user is deleted."""
    if user:
        st.text(f"User {user.user_id}: {user.name}, {user.age} years old.")
        st.text("This cannot be undone.")
        off = st.session_state.writing
        st.button("Delete for good", type="primary", disabled=off, on_click=begin_write)
        done = f"User {user.user_id} was deleted."
        write(api, "DELETE", user_url(api, user.user_id), {}, done)


def write(api: ApiClient, method: str, url: str, params: dict[str, str | int], done: str) -> None:
    """Show why the last write failed. If the button was clicked, write; show the users again."""
    state = st.session_state
    if failed := state.failed:
        refused = failed.kind == "API refuses"
        widgets.show_error(failed, "Nothing was changed." if refused else UNCERTAIN)
    if not state.writing:
        return
    with st.spinner("Waiting for the API"):
        # Store the result before the spinner ends: a click may end this run at the next widget.
        state.writing = False
        result = attempt(lambda: api.request(url, method, params))
        if isinstance(result, ApiError):
            state.failed = result
        else:
            forget_users()
            state.done = done
    st.rerun()
