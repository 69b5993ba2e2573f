"""The dialogs of the users page, in which users are created, changed and deleted."""

from collections.abc import Callable

import calls
from faults import ApiFault, ApiRefuses
from parts import show_fault, st
from schema import MAX_AGE_YEARS, User
from settings import Settings
from words import fault_lines

UNCERTAIN = "It is not known whether anything was changed. Close this, reload, and look."

Dialog = Callable[[Settings, User | None], None]


def forget_listing() -> None:
    """Have the users loaded anew the next time they are shown."""
    for name in ("listing", "export", "refused", "dialog"):
        st.session_state.pop(name, None)


def open_dialog(dialog: Dialog, user: User | None) -> None:
    """Have a dialog about a user open until it has done its work or is dismissed."""
    st.session_state.dialog = (dialog, user)


def close_dialog() -> None:
    """Have no dialog open."""
    st.session_state.pop("dialog", None)


@st.dialog("A user", on_dismiss=close_dialog)
def edit_dialog(settings: Settings, user: User | None) -> None:
    """Ask for a new user, or for what is new about one."""
    with st.form("user", border=False):
        user_id = st.text_input(
            "Id", value=str(user.user_id) if user else "", disabled=user is not None
        )
        name = st.text_input("Name", value=user.name if user else "")
        age = st.number_input("Age in years", 0, MAX_AGE_YEARS, user.age if user else 30)
        wanted = st.form_submit_button("Save" if user else "Create")
    if not wanted:
        return
    if user:
        write(
            lambda: calls.update_user(settings, user.user_id, name, age),
            f"User {user.user_id} was changed.",
        )
    else:
        write(lambda: calls.create_user(settings, user_id, name, age), "The user was created.")


@st.dialog("Delete this user?", on_dismiss=close_dialog)
def delete_dialog(settings: Settings, user: User | None) -> None:
    """Ask whether a user is really to be deleted."""
    if user is None:
        return
    st.text(f"User {user.user_id}: {user.name}, {user.age} years old.")
    st.text("This cannot be taken back.")
    with st.container(horizontal=True):
        wanted = st.button("Delete for good")
        if st.button("Keep"):
            close_dialog()
            st.rerun()
    if wanted:
        write(
            lambda: calls.delete_user(settings, user.user_id), f"User {user.user_id} was deleted."
        )


def write(work: Callable[[], None], done: str) -> None:
    """Have the API write something; then show the users as they are, or why it did not.

    A write that is refused as a stranger's makes the page read-only.
    """
    try:
        work()
    except ApiFault as fault:
        if not (isinstance(fault, ApiRefuses) and fault.status in (401, 403)):
            show_fault(
                fault, "Nothing was changed." if isinstance(fault, ApiRefuses) else UNCERTAIN
            )
            return
        close_dialog()
        st.session_state.refused = fault_lines(fault)
    else:
        forget_listing()
        st.session_state.done = done
    st.rerun()
