"""The users page: one page of the API's listing, to search, change and download."""

from collections.abc import Callable
from functools import partial

import msgspec
import streamlit as st

import users as api_users
import widgets
from ages import AgeCounts
from api_client import ApiClient, ApiError, Latest, Poller, T, now
from users import PAGE_USERS, Listing, User

UNCERTAIN = "It is not known whether anything was changed. Close this, reload, and look."

Dialog = Callable[[ApiClient, tuple[User, ...]], None]
# The next run of the page writes, once. Until this is done the dialog's button is disabled.
begin_write = partial(st.session_state.update, writing=True, failed=None)


def users_page(api: ApiClient, ages: Poller[AgeCounts]) -> None:
    """Show a page of users, or those that are searched for."""
    head, notes = st.container(), st.container()  # what is below them keeps its place and focus
    with notes:
        loaded = load_users(api)
    with head:
        state = widgets.State("Loaded {} ago", "gray", loaded.seconds_old)
        state = widgets.state_of(loaded) if loaded.error else state
        widgets.show_title("Users", "Find, add, change and delete users", state)
    with notes:
        if done := st.session_state.pop("done", None):
            st.success(done, icon=":material/check:")
    if opened := st.session_state.get("dialog"):
        title, dialog, users = opened
        st.dialog(title, on_dismiss=lambda: st.session_state.pop("dialog"))(dialog)(api, users)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Find by id or name (among all users)", key="wanted", type="search", width=340,
            placeholder="123, or alice", on_change=turn_to, args=([None],),
        )  # fmt: skip
        dialog_button("Add a user", "person_add", False, edit_dialog, ())
        st.button("Reload", icon=":material/refresh:", on_click=forget_users)
    if loaded.error:
        widgets.show_error(loaded.error, "This page sends no request by itself: reload it.")
    elif loaded.value:
        counts = ages.latest(0).value
        show_listing(api, loaded.value, counts.total if counts else 0)


def show_listing(api: ApiClient, listing: Listing, total: int) -> None:
    """Show the users, and what can be done with the selected ones."""
    selected = show_users(listing.users)
    with st.container(horizontal=True, gap="large"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            number = len(selected)
            dialog_button("Edit", "edit", number != 1, edit_dialog, selected)
            dialog_button("Delete", "delete", not selected, delete_dialog, selected)
            st.text(f"{widgets.how_many(number, 'user')} selected" if number else "Select rows")
        show_paging(api, listing, total)
    shown = widgets.how_many(len(listing.users), "user")
    rows = [msgspec.structs.asdict(user) for user in listing.users]
    st.download_button(f"CSV: {shown}", widgets.as_csv(rows), "users.csv", on_click="ignore")


def attempt(work: Callable[[], T]) -> Latest[T]:
    """Return what `work` returns, or the ApiError that it raises."""
    try:
        return Latest(((now(), work()),))
    except ApiError as error:
        return Latest(error=error.with_traceback(None))


def load_users(api: ApiClient) -> Latest[Listing]:
    """Return this viewer's loaded users; if there are none, load them from the API."""
    state = st.session_state
    after = state.setdefault("pages", [None])[-1]
    if "listing" not in state:
        with st.spinner("Waiting for the API"):
            state.listing = attempt(lambda: api_users.find_users(api, wanted(), after))
    loaded: Latest[Listing] = state.listing
    return loaded


def forget_users() -> None:
    """Delete the loaded users, so that the next run loads them again; close the dialog."""
    for name in ("listing", "dialog"):
        st.session_state.pop(name, None)


def wanted() -> str:
    """Return the id or name that is searched for, or an empty string."""
    return str(st.session_state.get("wanted", "")).strip()


def show_users(users: list[User]) -> tuple[User, ...]:
    """Show the users as a table, and return the selected ones, or the only one."""
    if not users:
        text = "No user has this id or name." if wanted() else "There are no users on this page."
        st.info(text, title="No users to show")
        return ()
    event = st.dataframe(
        # The name is last: a long one hides no other column.
        [{"Id": user.user_id, "Age": user.age, "Name": user.name} for user in users],
        column_config={
            "Id": st.column_config.NumberColumn(format="%d", alignment="left", width=150),
            "Age": st.column_config.NumberColumn(width=70, alignment="left"),
            "Name": st.column_config.TextColumn(width=480),
        },
        width="content",
        # Other users get another key: else the rows with the same numbers would stay selected.
        key=f"users {hash(tuple(users))}",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        height="stretch",
        alt="The users of this page by id, with name and age in years",
    )
    rows = event.selection.rows
    return tuple(users[row] for row in rows) if rows else tuple(users) if len(users) == 1 else ()


def show_paging(api: ApiClient, listing: Listing, total: int) -> None:
    """Say which users are loaded, and offer the pages before and after, and a page by number."""
    pages: list[int | None] = st.session_state.pages
    page, shown = f"Page {len(pages):,}", widgets.how_many(len(listing.users), "user")
    if total and not wanted():
        page, shown = f"{page} of {-(-total // PAGE_USERS):,}", f"{shown} of {total:,}"
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.text(f"{page}, {shown}")
        st.button("Previous", disabled=len(pages) == 1, on_click=turn_to, args=(pages[:-1],))
        following, last = [*pages, listing.next_after], listing.next_after is None
        st.button("Next", disabled=last, on_click=turn_to, args=(following,))
        if not wanted():
            st.number_input(
                "Page", 1, None, len(pages), key=f"page {len(pages)}", width=120,
                label_visibility="collapsed", on_change=jump, args=(api, len(pages)),
            )  # fmt: skip


def jump(api: ApiClient, shown: int) -> None:
    """Show the page with the number that was entered, or the last one on the way to it."""
    number = st.session_state[f"page {shown}"]
    found = attempt(lambda: api_users.page_starts(api, st.session_state.pages, number))
    if starts := found.value:
        turn_to(starts)
    else:
        st.session_state.listing = found


def turn_to(pages: list[int | None]) -> None:
    """Show the page after the last of these ids; the other ids are for the previous pages."""
    st.session_state.pages = pages
    forget_users()


def dialog_button(
    label: str, icon: str, disabled: bool, dialog: Dialog, users: tuple[User, ...]
) -> None:
    """Show a button that opens a dialog. A successful write or the viewer closes the dialog."""
    title = f"{label} user {users[0].user_id}" if len(users) == 1 else label
    title = f"{label} {len(users)} users" if len(users) > 1 else title
    state = {"dialog": (title, dialog, users), "targets": users or (None,)}
    opening = partial(st.session_state.update, state, writing=False, failed=None)
    st.button(label, icon=f":material/{icon}:", disabled=disabled, on_click=opening)


def edit_dialog(api: ApiClient, users: tuple[User, ...]) -> None:
    """Ask for a new user, or for the new name and age of a user."""
    user = users[0] if users else None
    with st.form("user", border=False):
        user_id = st.text_input("Id", str(user.user_id) if user else "", disabled=bool(user))
        name = st.text_input("Name", user.name if user else "")
        # No limits here: the API checks the age. With limits the viewer could get two messages.
        age = st.number_input("Age in years", value=user.age if user else 30)
        label, off = "Save" if user else "Create", st.session_state.writing
        st.form_submit_button(label, type="primary", disabled=off, on_click=begin_write)
    method, done = "POST", "The user was created."
    params: dict[str, str | int] = {"user_id": user_id, "name": name, "age": age}
    if user:
        method, done = "PUT", f"User {params.pop('user_id')} was changed."
    write(partial(api_users.change, api, method, params), done)


def delete_dialog(api: ApiClient, users: tuple[User, ...]) -> None:
    """Ask the viewer to confirm that users are deleted."""
    for user in users[:5]:
        st.text(f"User {user.user_id}: {user.name}, {user.age} years old.")
    if len(users) > 5:
        st.text(f"And {widgets.how_many(len(users) - 5, 'other user')}.")
    st.text("This cannot be undone.")
    off = st.session_state.writing
    st.button("Delete for good", type="primary", disabled=off, on_click=begin_write)
    done = f"User {users[0].user_id} was" if len(users) == 1 else f"{len(users)} users were"
    write(partial(api_users.change, api, "DELETE", {}), f"{done} deleted.")


def write(write_one: Callable[[User | None], object], done: str) -> None:
    """Show why the last write failed. If the button was clicked, write; show the users again."""
    state = st.session_state
    if stored := api_users.stored_user(state.failed):
        title = "Somebody else changed this user meanwhile"
        st.warning("Nothing was written. Do it again to replace what is stored.", title=title)
        st.text(f"Stored now: {stored.name}, {stored.age} years old.")
    elif state.failed:
        before = max(0, len(state.dialog[2]) - len(state.targets))
        refused = f"{before} of them were deleted before." if before else "Nothing was changed."
        refused = refused if state.failed.kind == "API refuses" else UNCERTAIN
        widgets.show_error(state.failed, refused, unfolded=True)
    if not state.writing:
        return
    with st.spinner("Waiting for the API"):
        # Store the result before the spinner ends: a click may end this run at the next widget.
        state.writing = False
        while state.targets and not state.failed:
            error = attempt(partial(write_one, state.targets[0])).error
            gone = error and error.status == 404 and len(state.dialog[2]) > 1
            state.failed = None if gone else error
            kept = api_users.stored_user(error) or state.targets[0]
            state.targets = (*([kept] if state.failed else []), *state.targets[1:])
        if not state.failed:
            forget_users()
            state.done = done
    st.rerun()
