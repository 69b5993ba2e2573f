"""The users page: who the users are, page by page, to be found, ordered and downloaded."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import calls
from client import TOTAL_TIMEOUT_SECONDS
from dialogs import delete_dialog, edit_dialog, forget_listing, open_dialog, show_dialog
from faults import ApiFault, ApiRefuses
from parts import shared_refusal, show_fault, show_reason, show_title, st
from schema import Listing, User
from settings import Settings
from tables import ORDERS, as_csv, as_json, matching, ordered
from words import how_many, listing_state

PAGE_USERS = 100
ASK_AGAIN = "Nothing is asked again by itself here: see what to do, then reload."


def people_page(settings: Settings) -> None:
    """Show one page of the API's listing, or the one user who has an id."""
    # Holders of what comes and goes: what stands below them stays where it is, and keeps its focus.
    head, notes = st.container(), st.container()
    with notes:
        loaded = loaded_listing(settings)
    refused: ApiFault | None = st.session_state.get("refused")
    if isinstance(loaded, Listing) and not refused and "done" not in st.session_state:
        refused = shared_refusal(settings)  # unless a write was just taken
    with head:
        show_title("Users", listing_state(loaded, st.session_state.loaded_at))
    with notes:
        show_notes(refused)
    show_actions(read_only=bool(refused))
    show_dialog(settings)
    shown = show_search(loaded.users if isinstance(loaded, Listing) else [])
    if isinstance(loaded, ApiFault):
        show_fault(loaded, ASK_AGAIN)
        return
    chosen = show_users(shown, loaded)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        show_changes(chosen, read_only=bool(refused))
        show_paging(loaded, len(shown))
    if loaded.unreadable_rows:
        st.text(f"{how_many(loaded.unreadable_rows, 'row')} could not be read.")
    show_downloads(settings, shown)


# -------------------------------------------------------------------------------------- loading


def loaded_listing(settings: Settings) -> Listing | ApiFault:
    """Return what was loaded for this visitor, after loading it if nothing was."""
    if "listing" not in st.session_state:
        after = st.session_state.setdefault("pages", [None])[-1]
        with st.spinner("Asking the API"):
            st.session_state.listing = attempt(lambda: load(settings, after))
        behind_utc = timedelta(minutes=st.context.timezone_offset or 0)  # where the visitor is
        st.session_state.loaded_at = datetime.now(UTC) - behind_utc
    loaded: Listing | ApiFault = st.session_state.listing
    return loaded


def load(settings: Settings, after: int | None) -> Listing:
    """Return the user with the id that is looked for, or else the page after an id."""
    seconds = st.session_state.pop("seconds_left", TOTAL_TIMEOUT_SECONDS)  # that a write has left
    wanted = wanted_id()
    if not wanted:
        return calls.fetch_page(settings, after, PAGE_USERS, seconds)
    if not re.fullmatch("[0-9]{1,16}", wanted):
        # Perhaps a name, which does not belong in an address. That nobody has it is known only of
        # an API that answers.
        calls.fetch_page(settings, None, 1, seconds)
        return Listing(users=[])
    try:
        return Listing(users=[calls.fetch_user(settings, int(wanted), seconds)])
    except ApiRefuses as refusal:
        if refusal.status != 404:
            raise
        return Listing(users=[])  # that nobody has an id is an answer, and no fault


def wanted_id() -> str:
    """Return what was typed as the id to look for, if anything was."""
    return str(st.session_state.get("id", "")).strip()


def attempt(work: Callable[[], Listing]) -> Listing | ApiFault:
    """Return what `work` returns, or the fault that it raises."""
    try:
        return work()
    except ApiFault as fault:
        return fault.without_traces()


def turn_to(pages: list[int | None]) -> None:
    """Show the page after the last of these ids; the others are those to go back to."""
    st.session_state.pages = pages
    forget_listing()


# ------------------------------------------------------------------------------- what is seen


def show_actions(read_only: bool) -> None:
    """Offer what concerns no single user."""
    with st.container(horizontal=True):
        st.button(
            "Add a user",
            icon=":material/person_add:",
            disabled=read_only,
            on_click=open_dialog,
            args=("Add a user", edit_dialog, None),
        )
        st.button("Reload", icon=":material/refresh:", on_click=forget_listing)


def show_notes(refused: ApiFault | None) -> None:
    """Say what was just done, and when nothing can be changed from here, why."""
    if done := st.session_state.pop("done", None):
        st.success(done, icon=":material/check:")
    if not refused:
        return
    with st.container(border=True, gap="small"):
        st.info("Users can be seen here, and not added, changed or deleted.", title="Read-only")
        show_reason(refused)


def show_search(users: list[User]) -> list[User]:
    """Return those of the loaded users that are asked for, in the order asked for."""
    by_id, by_words, order = st.columns(3)
    by_id.text_input(
        "Find by id (among all users)",
        key="id",
        type="search",
        placeholder="123",
        on_change=forget_listing,
    )
    words = by_words.text_input(
        "Filter this page by name or age", key="filter", type="search", placeholder="alice, or 30"
    )
    chosen_order = order.selectbox("Order of this page", list(ORDERS), key="order")
    return ordered(matching(users, words), chosen_order)


def show_nobody(loaded: Listing) -> None:
    """Say why there is nobody to see."""
    if loaded.users:
        st.info("Nobody on this page matches the filter above.", title="Nobody to show")
    elif wanted_id():
        st.info("Ids are looked up among all users.", title="Nobody has this id")
    else:
        st.info("There is nobody on this page. You may add a user.", title="Nobody to show")


def show_users(users: list[User], loaded: Listing) -> User | None:
    """Show the users as a table, and return the one that is chosen, or the only one."""
    if not users:
        show_nobody(loaded)
        return None
    event = st.dataframe(
        {
            "Id": [str(user.user_id) for user in users],
            "Age": [user.age for user in users],
            "Name": [user.name for user in users],  # last: a long one hides nothing on a phone
        },
        column_config={"Age": st.column_config.NumberColumn(width="small", alignment="left")},
        # Other users are another table: a row chosen in the one must not be chosen in the other.
        key=f"users {hash(tuple(users))}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        alt="The users of this page by id, with name and age in years",
    )
    rows = event.selection.rows
    if rows:
        return users[rows[0]]
    return users[0] if len(users) == 1 else None


def show_paging(loaded: Listing, shown: int) -> None:
    """Say which users are loaded, and lead to those before and after."""
    pages: list[int | None] = st.session_state.pages
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        if wanted_id():
            st.text("Found among all users." if loaded.users else "")
            return
        st.button(
            "Previous",
            icon=":material/chevron_left:",
            disabled=len(pages) == 1,
            on_click=turn_to,
            args=(pages[:-1],),
        )
        part = f"{shown:,} of " if shown < len(loaded.users) else ""
        st.text(f"Page {len(pages)}, {part}{how_many(len(loaded.users), 'user')}")
        st.button(
            "Next",
            icon=":material/chevron_right:",
            icon_position="right",
            disabled=loaded.next_after is None,
            on_click=turn_to,
            args=([*pages, loaded.next_after],),
        )


def show_downloads(settings: Settings, shown: list[User]) -> None:
    """Offer what is shown, and everybody up to a bound, as files."""
    with st.expander("Download", icon=":material/download:"):
        st.text("In CSV, an apostrophe stands before what a spreadsheet would run.")
        offer(f"The {how_many(len(shown), 'user')} shown", "shown", as_csv(shown), as_json(shown))
        if st.button(f"Collect everybody, up to {calls.MAX_EXPORT_USERS:,} users"):
            everybody = attempt(lambda: calls.fetch_all(settings))
            if isinstance(everybody, Listing):
                st.session_state.export = (
                    how_many(len(everybody.users), "user")
                    + (": all there are" if everybody.next_after is None else ", the first by id")
                    + f"; {how_many(everybody.unreadable_rows, 'row')} could not be read",
                    as_csv(everybody.users),
                    as_json(everybody.users),
                )
            else:
                show_fault(everybody, "Nothing was collected. Try again when that is put right.")
        if export := st.session_state.get("export"):
            offer(export[0], "all", export[1], export[2])


def offer(what: str, name: str, csv: bytes, json: bytes) -> None:
    """Offer a file in both formats."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{what}:", width="content")
        for suffix, media_type, content in (
            ("csv", "text/csv", csv),
            ("json", "application/json", json),
        ):
            st.download_button(
                suffix.upper(),
                content,
                f"users-{name}.{suffix}",
                media_type,
                key=f"{name} {suffix}",
                on_click="ignore",
            )


# ---------------------------------------------------------------------------- what is changed


def show_changes(chosen: User | None, read_only: bool) -> None:
    """Offer to change or delete the user who is chosen."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        disabled, whom = read_only or chosen is None, chosen.user_id if chosen else ""
        for label, dialog in (("Edit", edit_dialog), ("Delete", delete_dialog)):
            st.button(
                label,
                icon=f":material/{label.lower()}:",
                disabled=disabled,
                on_click=open_dialog,
                args=(f"{label} user {whom}", dialog, chosen),
            )
        st.text(f"User {chosen.user_id} is chosen." if chosen else "Choose a user in the table.")
