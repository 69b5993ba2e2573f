"""The users page, run as Streamlit runs it, against an API that responds as a test tells it to."""

import re

import pytest
from conftest import Api, Responder, badge, data, silence, texts, turn_to
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

ALICE = {"name": "Alice", "age": 30}
BOB = {"name": "bob", "age": 41}
TRAP = "**a** :red[b] <b>c</b> ![x](https://example.org/x.png)"


@pytest.fixture
def users(api: Api, page: AppTest) -> AppTest:
    """The users page of an open API with two users."""
    api.responders["POST /users/"] = data({"detail": []}, status=422)
    api.pages({1: ALICE, 2: BOB})
    api.counts({30: 1, 41: 1})
    return turn_to(page.run(), "users")


def button(page: AppTest, label: str) -> Button:
    (found,) = [each for each in page.button if each.label == label]
    return found


def names(page: AppTest) -> list[str]:
    return list(page.dataframe[0].value["Name"])


def choose(page: AppTest, row: int) -> AppTest:
    """Choose a row of the table, as a click on it does."""
    page.session_state[page.dataframe[0].key or ""] = {"selection": {"rows": [row]}}
    return page.run()


def test_the_users_are_listed(users: AppTest) -> None:
    """Users are shown by id with name and age, and the page says when that was."""
    assert not users.exception
    assert users.title[0].value == "Users"
    assert re.search(r"Loaded at \d\d:\d\d:\d\d", badge(users))
    assert users.dataframe[0].value.values.tolist() == [[1, 30, "Alice"], [2, 41, "bob"]]
    assert "Page 1, 2 users" in texts(users)


def test_paging(api: Api, users: AppTest) -> None:
    """Next and previous follow the API's own links, and stop where they do."""
    api.pages({1: ALICE}, {2: BOB}, {9: ALICE})
    button(users, "Reload").click().run()
    assert button(users, "Previous").disabled
    button(users, "Next").click().run()
    assert names(users) == ["bob"]
    assert "Page 2, 1 user" in texts(users)
    button(users, "Next").click().run()
    assert button(users, "Next").disabled
    assert api.paths[-1] == "/users/?limit=100&after=2"
    button(users, "Previous").click().run()
    assert names(users) == ["bob"]


def test_find_by_id(api: Api, users: AppTest) -> None:
    """An id is looked up among all users, and the one found is selected at once."""
    api.responders["/users/?limit=1&after=776"] = data({"777": {"name": "Zoë", "age": 9}})
    users.text_input(key="id").set_value("777").run()
    assert names(users) == ["Zoë"]
    assert "Found by id, 1 user" in texts(users)
    assert not button(users, "Edit").disabled
    users.text_input(key="id").set_value(" ").run()
    assert names(users) == ["Alice", "bob"]


@pytest.mark.parametrize("listing", [{}, {"6": ALICE}], ids=("nothing", "the next user"))
def test_no_user_has_the_id(api: Api, users: AppTest, listing: object) -> None:
    """An id that no user has is no error, also where the API lists the user after it."""
    api.responders["/users/?limit=1&after=4"] = data(listing)
    users.text_input(key="id").set_value("5").run()
    assert users.info[0].value == "No user has this id."
    assert re.search(r"Loaded at \d\d:\d\d:\d\d", badge(users))
    assert not users.error


@pytest.mark.parametrize(
    "typed", ["../stats/ages", "1?x=1", "Zebedee", "-1", "7" * 9_999, "٧", str(2**53 + 1)]
)
def test_only_an_id_is_looked_up(api: Api, users: AppTest, typed: str) -> None:
    """Nothing else that is typed, a name perhaps, gets into an address, which may be logged."""
    asked = len(api.paths)
    users.text_input(key="id").set_value(typed).run()
    assert users.info[0].value == "No user has this id."
    assert not api.paths[asked:]


def test_filter(api: Api, users: AppTest) -> None:
    """Names and ages are filtered within the page, without another request."""
    assert users.text_input(key="filter").label == "Filter this page by name or age"
    users.text_input(key="filter").set_value("BO").run()
    assert names(users) == ["bob"]
    assert "Page 1, 1 of 2 users" in texts(users)
    users.text_input(key="filter").set_value("30").run()
    assert names(users) == ["Alice"]
    choose(users, 0)
    users.text_input(key="filter").set_value("no such name").run()
    assert users.info[0].value == "No user on this page matches the filter."
    assert [path for path in api.paths if path.startswith("/users")] == ["/users/?limit=100"]
    api.pages({})
    button(users, "Reload").click().run()
    assert users.info[0].value == "There are no users on this page."


def test_names_are_text(api: Api, users: AppTest) -> None:
    """A name with Markdown or HTML in it is shown as it is, in the table and in a dialog."""
    api.pages({1: {"name": TRAP, "age": 3}})
    button(users, "Reload").click().run()
    assert names(users) == [TRAP]
    button(users, "Delete").click().run()
    assert f"User 1: {TRAP}, 3 years old." in texts(users)
    for each in (*users.markdown, *users.caption, *users.info, *users.success):
        assert "example.org" not in str(each.value)


def test_a_bad_row_never_blanks_the_page(api: Api, users: AppTest) -> None:
    """Rows that cannot be read are left out and counted."""
    api.pages({1: ALICE, 2: {"name": 5, "age": 5}, 3: None, 4: {"name": "x", "age": 999}})
    button(users, "Reload").click().run()
    assert names(users) == ["Alice"]
    assert "3 rows could not be read." in texts(users)


def test_create(api: Api, users: AppTest) -> None:
    """The dialog creates a user, and the page shows it."""
    button(users, "Add a user").click().run()
    users.text_input[-2].set_value("77")
    users.text_input[-1].set_value("Zoë&Co")
    users.number_input[0].set_value(9)
    api.responders["POST /users/"] = data({}, status=201)
    api.pages({1: ALICE, 77: {"name": "Zoë&Co", "age": 9}})
    button(users, "Create").click().run()
    assert api.writes[-1][:2] == ("POST", "/users/?user_id=77&name=Zo%C3%AB%26Co&age=9")
    assert users.success[0].value == "The user was created."
    assert names(users) == ["Alice", "Zoë&Co"]


@pytest.mark.usefixtures("short_patience")
def test_a_write_without_a_response_is_uncertain(api: Api, users: AppTest) -> None:
    """Without a response it is not known whether the write was done, and the page says so."""
    choose(users, 0)
    button(users, "Edit").click().run()
    api.responders["PUT /users/1"] = silence
    button(users, "Save").click().run()
    assert users.error[0].value.startswith("It is not known whether anything was changed.")


def test_a_dialog_that_failed_can_be_tried_again(api: Api, users: AppTest) -> None:
    """The old error goes with the next try, and nothing is written without another click."""
    button(users, "Add a user").click().run()
    assert users.get("dialog")[0].proto.dialog.title == "Add a user"
    users.text_input[-2].set_value("1")
    api.responders["POST /users/"] = data({"detail": "User 1 already exists"}, status=409)
    button(users, "Create").click().run()
    assert users.error[0].value == "Nothing was changed."
    writes = len(api.writes)
    users.run()
    assert "The API's message: User 1 already exists" in texts(users)
    assert len(api.writes) == writes
    assert not button(users, "Create").disabled
    users.number_input[0].set_value(151)
    api.responders["POST /users/"] = data({"detail": "too old"}, status=422)
    button(users, "Create").click().run()
    assert "age=151" in api.writes[-1][1]
    assert "The API's message: too old" in texts(users)
    assert not any("already exists" in text for text in texts(users))


def test_edit(api: Api, users: AppTest) -> None:
    """The dialog starts with what the user is, and replaces name and age."""
    choose(users, 1)
    assert "User 2 is selected." in texts(users)
    button(users, "Edit").click().run()
    assert (users.text_input[-1].value, users.number_input[0].value) == ("bob", 41)
    users.text_input[-1].set_value("Bob")
    api.responders["PUT /users/2"] = data({})
    button(users, "Save").click().run()
    assert api.writes[-1][:2] == ("PUT", "/users/2?name=Bob&age=41")
    assert users.success[0].value == "User 2 was changed."


def test_delete_needs_a_second_click(api: Api, users: AppTest) -> None:
    """Delete asks first, with name and age; only the second click deletes."""
    api.responders["DELETE /users/1"] = data(None, status=204)
    choose(users, 0)
    button(users, "Delete").click().run()
    assert "User 1: Alice, 30 years old." in texts(users)
    assert not [write for write in api.writes if write[0] == "DELETE"]
    button(users, "Delete for good").click().run()
    assert api.writes[-1][:2] == ("DELETE", "/users/1")
    assert users.success[0].value == "User 1 was deleted."


def test_a_selection_ends_with_its_table(api: Api, users: AppTest) -> None:
    """When the table changes, no row of it stays selected."""
    choose(users, 0)
    assert not button(users, "Delete").disabled
    api.pages({1: BOB, 2: ALICE})
    button(users, "Reload").click().run()
    assert button(users, "Delete").disabled


@pytest.mark.parametrize(("status", "hint"), [(401, "API_TOKEN of the API"), (403, "Origin")])
def test_a_protected_api_makes_the_page_read_only(
    api: Api, page: AppTest, status: int, hint: str
) -> None:
    """Without a token, users can be seen and not changed, and the page says so before a try."""
    api.responders["POST /users/"] = data({"detail": "A write needs the token"}, status=status)
    api.pages({1: ALICE})
    turn_to(page.run(), "users")
    assert page.info[0].proto.title == "Read-only"
    assert "The API's message: A write needs the token" in texts(page)
    assert any(hint in text for text in texts(page))
    assert [button(page, each).disabled for each in ("Add a user", "Edit", "Delete")] == [True] * 3
    assert names(page) == ["Alice"]


def test_the_token_is_sent_with_writes_alone(
    api: Api, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With API_TOKEN set, writes carry it; it is shown nowhere."""
    monkeypatch.setenv("API_TOKEN", "canary-token")
    api.responders["POST /users/"] = data({}, status=422)
    api.responders["DELETE /users/1"] = data(None, status=204)
    api.pages({1: ALICE})
    turn_to(page.run(), "users")
    button(page, "Delete").click().run()
    button(page, "Delete for good").click().run()
    assert [token for _, _, token in api.writes] == ["Bearer canary-token"] * 2
    assert "canary" not in repr(page)


@pytest.mark.parametrize(
    ("responder", "state"),
    [
        (data({"detail": "x"}, status=403), "API refuses"),
        (data([]), "Not understood"),
        (data({}, status=500), "API error"),
        (silence, "API down"),
    ],
)
@pytest.mark.usefixtures("short_patience")
def test_errors(api: Api, users: AppTest, responder: Responder, state: str) -> None:
    """Each error has its badge and its hint; search and buttons stay."""
    api.responders["/users/?limit=100"] = responder
    button(users, "Reload").click().run()
    assert not users.exception
    assert state in badge(users)
    assert users.error[0].value.startswith("This page sends no request by itself")
    assert any(text.startswith("What to do: ") for text in texts(users))


def test_all_users_are_collected(api: Api, users: AppTest) -> None:
    """All users become a file; one that cannot be read is counted; a failure is named."""
    api.lists(ALICE, BOB, None)
    button(users, "Collect all users").click().run()
    assert "1 row could not be read." in texts(users)
    labels = [each.label for each in users.download_button]
    assert labels == ["CSV: 2 users shown", "CSV: all 2 users"]
    api.responders["/users/"] = data({}, status=500)
    button(users, "Collect all users").click().run()
    assert users.error[0].value.startswith("Nothing was collected")


def test_coming_back_loads_again(api: Api, users: AppTest) -> None:
    """A viewer who comes back to the page sees new data."""
    turn_to(users, "")
    api.pages({5: BOB})
    turn_to(users, "users")
    assert names(users) == ["bob"]
