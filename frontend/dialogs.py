"""The dialogs of the users page, in which users are created, changed and deleted."""

import time
from collections.abc import Callable

import calls
from client import TOTAL_TIMEOUT_SECONDS
from faults import ApiFault, ApiRefuses
from parts import show_fault, st
from schema import User
from settings import Settings
from words import LABELS

UNCERTAIN = "It is not known whether anything was changed. Close this, reload, and look."

Dialog = Callable[[Settings, User | None], None]


def forget_listing() -> None:
    """Have the users loaded anew the next time they are shown."""
    for name in ("listing", "export", "refused"):
        st.session_state.pop(name, None)
    close_dialog()


def open_dialog(title: str, dialog: Dialog, user: User | None) -> None:
    """Have a dialog about a user open until it has done its work or is dismissed."""
    close_dialog()
    st.session_state.dialog = (title, dialog, user)


def close_dialog() -> None:
    """Have no dialog open, and nothing left of the one before."""
    for name in ("dialog", "writing", "write_fault"):
        st.session_state.pop(name, None)


def show_dialog(settings: Settings) -> None:
    """Show the dialog that is open."""
    if opened := st.session_state.get("dialog"):
        title, dialog, user = opened
        st.dialog(title, on_dismiss=close_dialog)(dialog)(settings, user)


def edit_dialog(settings: Settings, user: User | None) -> None:
    """Ask for a new user, or for what is new about one."""
    with st.form("user", border=False):
        user_id = st.text_input(
            LABELS["user_id"], value=str(user.user_id) if user else "", disabled=user is not None
        )
        name = st.text_input(LABELS["name"], value=user.name if user else "")
        # Without bounds: the API judges what is typed. The browser's words would stand beside its.
        age = st.number_input(LABELS["age"], value=user.age if user else 30)
        st.form_submit_button(
            "Save" if user else "Create", type="primary", disabled=writing(), on_click=begin_write
        )
    if user:
        write(
            lambda: calls.update_user(settings, user.user_id, name, age),
            f"User {user.user_id} was changed.",
        )
    else:
        write(lambda: calls.create_user(settings, user_id, name, age), "The user was created.")


def delete_dialog(settings: Settings, user: User | None) -> None:
    """Ask whether a user is really to be deleted."""
    if user is None:
        return
    st.text(f"User {user.user_id}: {user.name}, {user.age} years old.")
    st.text("This cannot be taken back.")
    with st.container(horizontal=True):
        st.button("Delete for good", type="primary", disabled=writing(), on_click=begin_write)
        if st.button("Keep", disabled=writing()):
            close_dialog()
            st.rerun()
    write(lambda: calls.delete_user(settings, user.user_id), f"User {user.user_id} was deleted.")


def begin_write() -> None:
    """Have what the dialog is for done, once: until then its buttons are off."""
    st.session_state.writing = True
    st.session_state.pop("write_fault", None)


def writing() -> bool:
    """Tell whether the API is about to be asked to write."""
    return bool(st.session_state.get("writing"))


def write(work: Callable[[], None], done: str) -> None:
    """Have the API write what was asked for; then show the users as they are, or why it did not."""
    if fault := st.session_state.get("write_fault"):
        what_now = "Nothing was changed." if isinstance(fault, ApiRefuses) else UNCERTAIN
        show_fault(fault, what_now, in_its_words=True)
    if not writing():
        return
    with st.spinner("Asking the API"):
        # All is noted before the spinner ends: another click may end this run at any such step.
        write_once(work, done)
    st.rerun()


def write_once(work: Callable[[], None], done: str) -> None:
    """Have the API write something, and note what became of it.

    A write that is refused as a stranger's makes the page read-only. What the write leaves of the
    time for an answer is for the users.
    """
    st.session_state.writing = False
    started_at = time.monotonic()
    try:
        work()
    except ApiFault as fault:
        fault.without_traces()
        if isinstance(fault, ApiRefuses) and fault.status in (401, 403):
            close_dialog()
            st.session_state.refused = fault
        else:
            st.session_state.write_fault = fault
    else:
        forget_listing()
        st.session_state.done = done
        st.session_state.seconds_left = TOTAL_TIMEOUT_SECONDS - (time.monotonic() - started_at)
