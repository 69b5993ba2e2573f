"""The users page, run as Streamlit runs it, against an API that responds as a test tells it to."""

import json

import pytest
from conftest import Api, Responder, badge, data, errors, headed, html_of, silence, texts, turn_to
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
    stores(api, 1, ALICE)
    stores(api, 2, BOB)
    api.counts({30: 1, 41: 1})
    return turn_to(page.run(), "users")


def stores(api: Api, user_id: int, user: dict[str, object], tag: str = '"abc"') -> None:
    """Let the API have this user, with this ETag."""
    body = json.dumps({"user_id": user_id, **user}).encode()
    headers = {"ETag": tag, "Content-Type": "application/json"}
    api.responders[f"/users/{user_id}"] = headed(body, 200, headers)


def button(page: AppTest, label: str) -> Button:
    (found,) = [each for each in page.button if each.label == label]
    return found


def names(page: AppTest) -> list[str]:
    return list(page.dataframe[0].value["Name"])


def choose(page: AppTest, *rows: int) -> AppTest:
    """Choose rows of the table, as a click on each does."""
    page.session_state[page.dataframe[0].key or ""] = {"selection": {"rows": list(rows)}}
    return page.run()


def test_the_users_are_listed(users: AppTest) -> None:
    """Users are shown by id with name and age, and the page says when that was."""
    assert not users.exception
    assert "<h1>Users</h1>" in html_of(users)
    assert badge(users) == "gray: Loaded 0 s ago"
    assert users.dataframe[0].value.values.tolist() == [[1, 30, "Alice"], [2, 41, "bob"]]
    assert "Page 1 of 1, 2 users of 2" in texts(users)


def test_paging(api: Api, users: AppTest) -> None:
    """Next and previous follow the API's own links, and stop where they do."""
    api.pages({1: ALICE}, {2: BOB}, {9: ALICE})
    button(users, "Reload").click().run()
    assert button(users, "Previous").disabled
    button(users, "Next").click().run()
    assert names(users) == ["bob"]
    assert "Page 2 of 1, 1 user of 2" in texts(users)
    button(users, "Next").click().run()
    assert button(users, "Next").disabled
    assert api.paths[-1] == "/users/?limit=100&after=2"
    button(users, "Previous").click().run()
    assert names(users) == ["bob"]


def test_find_by_id(api: Api, users: AppTest) -> None:
    """An id is looked up among all users, and the one found is selected at once."""
    api.responders["/users/?limit=1&after=776"] = data({"777": {"name": "Zoë", "age": 9}})
    users.text_input(key="wanted").set_value("777").run()
    assert names(users) == ["Zoë"]
    assert "Page 1, 1 user" in texts(users)
    assert not button(users, "Edit").disabled
    users.text_input(key="wanted").set_value(" ").run()
    assert names(users) == ["Alice", "bob"]


@pytest.mark.parametrize("listing", [{}, {"6": ALICE}], ids=("no user", "the next user"))
def test_no_user_has_the_id(api: Api, users: AppTest, listing: object) -> None:
    """An id that no user has is no error, also where the API lists the user after it."""
    api.responders["/users/?limit=1&after=4"] = data(listing)
    users.text_input(key="wanted").set_value("5").run()
    assert users.info[0].value == "No user has this id or name."
    assert badge(users) == "gray: Loaded 0 s ago"
    assert not users.error


@pytest.mark.parametrize("typed", ["7" * 9_999, str(2**53), str(2**53 + 1), str(10**17)])
def test_no_user_can_have_the_id(api: Api, users: AppTest, typed: str) -> None:
    """A number above all ids is no error, and no request."""
    asked = api.paths.count("/users/?limit=100")
    users.text_input(key="wanted").set_value(typed).run()
    assert users.info[0].value == "No user has this id or name."
    assert not [path for path in api.paths if "limit=1&" in path]
    assert api.paths.count("/users/?limit=100") == asked


def test_search_by_name(api: Api, users: AppTest) -> None:
    """A name is searched for among all users: pages with few users, or none, are followed."""

    def page_of(users: dict[str, object], after: int | None) -> Responder:
        headers = {"Content-Type": "application/json"}
        if after:
            headers["Link"] = f'</users/?name=a%26b&limit=100&after={after}>; rel="next"'
        return headed(json.dumps(users).encode(), 200, headers)

    query = "/users/?name=a%26b&limit=100"
    api.responders[query] = page_of({"3": ALICE}, 5_000)
    api.responders["/users/?name=a%26b&limit=99&after=5000"] = page_of({}, 9_000)
    api.responders["/users/?name=a%26b&limit=99&after=9000"] = page_of({"9001": BOB}, None)
    users.text_input(key="wanted").set_value("a&b").run()
    assert not errors(users)
    assert names(users) == ["Alice", "bob"]
    assert "Page 1, 2 users" in texts(users)
    assert button(users, "Next").disabled
    api.responders[query] = page_of({}, None)
    button(users, "Reload").click().run()
    assert users.info[0].value == "No user has this id or name."


def test_a_search_has_a_bound(api: Api, users: AppTest) -> None:
    """After twenty requests the page shows what it has; Next goes on from there."""
    for after in (None, *range(100, 3_100, 100)):
        query = "/users/?name=x&limit=100" + (f"&after={after}" if after else "")
        headers = {"Link": f'</users/?after={(after or 0) + 100}>; rel="next"'}
        api.responders[query] = headed(b"{}", 200, headers)
    users.text_input(key="wanted").set_value("x").run()
    assert len([path for path in api.paths if "name=x" in path]) == 20
    assert not button(users, "Next").disabled
    button(users, "Next").click().run()
    assert "/users/?name=x&limit=100&after=2000" in api.paths


def test_an_api_that_cannot_search(api: Api, users: AppTest) -> None:
    """An older API refuses the parameter, and the page says so."""
    refused = data({"detail": [{"loc": ["query", "name"], "msg": "Unknown"}]}, status=422)
    api.responders["/users/?name=bob&limit=100"] = refused
    users.text_input(key="wanted").set_value("bob").run()
    assert errors(users)[0].startswith("**API refuses** (status 422)")
    assert "The API's message: name: Unknown" in texts(users)


def test_jump_to_a_page(api: Api, users: AppTest) -> None:
    """A page by its number is found in steps of a thousand users; beyond the last is the last."""
    api.counts({30: 2_350})
    api.pages(dict.fromkeys(range(100), ALICE), {})
    for after in (-1, 999, 1_299, 2_299):
        some = {str(each): ALICE for each in range(after + 1, min(after + 1_001, 2_350))}
        link = {"Link": f'</users/?limit=1000&after={after + 1_000}>; rel="next"'}
        key = "/users/?limit=1000" + (f"&after={after}" if after > 0 else "")
        more = link if after + 1_001 < 2_350 else {}
        api.responders[key] = headed(json.dumps(some).encode(), 200, more)
    for number, first in ((14, 1_300), (99, 2_300)):
        some = {str(each): BOB for each in range(first, first + 50)}
        api.responders[f"/users/?limit=100&after={first - 1}"] = data(some)
        users.number_input[0].set_value(number).run()
        assert not errors(users), api.paths[-3:]
        assert users.dataframe[0].value["Id"][0] == first
    assert any(text.startswith("Page 24") for text in texts(users))


def test_names_are_text(api: Api, users: AppTest) -> None:
    """A name with Markdown or HTML in it is shown as it is, in the table and in a dialog."""
    api.pages({1: {"name": TRAP, "age": 3}})
    button(users, "Reload").click().run()
    assert names(users) == [TRAP]
    button(users, "Delete").click().run()
    assert f"User 1: {TRAP}, 3 years old." in texts(users)
    for each in (*users.markdown, *users.caption, *users.info, *users.success):
        assert "example.org" not in str(each.value)


def test_a_bad_row_is_an_error(api: Api, users: AppTest) -> None:
    """A listing that breaks the contract is not shown in part: the page says that it is wrong."""
    api.pages({1: ALICE, 2: {"name": "x", "age": 999}})
    button(users, "Reload").click().run()
    assert "Not understood" in badge(users)


def test_create(api: Api, users: AppTest) -> None:
    """The dialog creates a user, and the page shows it."""
    button(users, "Add a user").click().run()
    users.text_input[-2].set_value("77")
    users.text_input[-1].set_value("Zoë&Co")
    users.number_input[-1].set_value(9)
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
    assert "It is not known whether anything was changed." in errors(users)[0]


def test_a_dialog_that_failed_can_be_tried_again(api: Api, users: AppTest) -> None:
    """The old error goes with the next try, and nothing is written without another click."""
    button(users, "Add a user").click().run()
    assert users.get("dialog")[0].proto.dialog.title == "Add a user"
    users.text_input[-2].set_value("1")
    api.responders["POST /users/"] = data({"detail": "User 1 already exists"}, status=409)
    button(users, "Create").click().run()
    assert errors(users)[0].endswith("Nothing was changed.")
    writes = len(api.writes)
    users.run()
    assert "The API's message: User 1 already exists" in texts(users)
    assert len(api.writes) == writes
    assert not button(users, "Create").disabled
    users.number_input[-1].set_value(151)
    api.responders["POST /users/"] = data({"detail": "too old"}, status=422)
    button(users, "Create").click().run()
    assert "age=151" in api.writes[-1][1]
    assert "The API's message: too old" in texts(users)
    assert not any("already exists" in text for text in texts(users))


def test_edit(api: Api, users: AppTest) -> None:
    """The dialog starts with what the user is, and replaces name and age."""
    choose(users, 1)
    assert "1 user selected" in texts(users)
    button(users, "Edit").click().run()
    assert (users.text_input[-1].value, users.number_input[-1].value) == ("bob", 41)
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
def test_a_protected_api_says_what_a_write_needs(
    api: Api, users: AppTest, status: int, hint: str
) -> None:
    """Without a token a write changes nothing, and the dialog says why, and what to do."""
    refused = data({"detail": "A write needs the token"}, status=status)
    api.responders["DELETE /users/1"] = refused
    api.pages({1: ALICE})
    stores(api, 1, ALICE)
    button(users, "Reload").click().run()
    button(users, "Delete").click().run()
    button(users, "Delete for good").click().run()
    assert "The API's message: A write needs the token" in texts(users)
    assert any(hint in text for text in texts(users))
    assert names(users) == ["Alice"]


def test_the_token_is_sent_with_writes_alone(
    api: Api, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With API_TOKEN set, writes carry it; it is shown nowhere."""
    monkeypatch.setenv("API_TOKEN", "canary-token")
    api.responders["DELETE /users/1"] = data(None, status=204)
    api.pages({1: ALICE})
    stores(api, 1, ALICE)
    turn_to(page.run(), "users")
    button(page, "Delete").click().run()
    button(page, "Delete for good").click().run()
    assert [token for _, _, token in api.writes] == ["Bearer canary-token"]
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
    assert "This page sends no request by itself" in errors(users)[0]
    assert any(text.startswith("What to do: ") for text in texts(users))


def test_what_somebody_else_changed_is_shown(api: Api, users: AppTest) -> None:
    """Edit writes only what the viewer saw; else both versions are shown, and Save replaces it."""
    choose(users, 1)
    button(users, "Edit").click().run()
    users.text_input[-1].set_value("Bobby")
    stores(api, 2, {"name": "Robert", "age": 42})
    writes = len(api.writes)
    button(users, "Save").click().run()
    assert len(api.writes) == writes
    assert users.warning[0].proto.title == "Somebody else changed this user meanwhile"
    assert "Stored now: Robert, 42 years old." in texts(users)
    assert users.text_input[-1].value == "Bobby"
    api.responders["PUT /users/2"] = data({})
    button(users, "Save").click().run()
    assert api.writes[-1][:2] == ("PUT", "/users/2?name=Bobby&age=41")
    assert users.success[0].value == "User 2 was changed."


def test_a_change_between_look_and_write_is_noticed(api: Api, users: AppTest) -> None:
    """The ETag of the look goes with the write, and a 412 shows the stored user."""
    choose(users, 1)
    button(users, "Edit").click().run()
    stored = {"user_id": 2, "name": "Robert", "age": 42}
    api.responders["PUT /users/2"] = data({"detail": "changed", "user": stored}, status=412)
    button(users, "Save").click().run()
    assert api.if_match == ['"abc"']
    assert "Stored now: Robert, 42 years old." in texts(users)


def test_an_api_without_etags(api: Api, users: AppTest) -> None:
    """An older API is written to without a condition."""
    api.responders["/users/2"] = data({"user_id": 2, **BOB})
    api.responders["PUT /users/2"] = data({})
    choose(users, 1)
    button(users, "Edit").click().run()
    button(users, "Save").click().run()
    assert api.if_match == [None]
    assert users.success[0].value == "User 2 was changed."


def test_bulk_delete(api: Api, users: AppTest) -> None:
    """Several selected users are deleted after one confirmation; one who is gone is no error."""
    api.responders["DELETE /users/2"] = data(None, status=204)
    choose(users, 0, 1)
    assert button(users, "Edit").disabled
    button(users, "Delete").click().run()
    assert users.get("dialog")[0].proto.dialog.title == "Delete 2 users"
    assert {"User 1: Alice, 30 years old.", "User 2: bob, 41 years old."} <= set(texts(users))
    button(users, "Delete for good").click().run()
    assert [write[:2] for write in api.writes if write[0] == "DELETE"] == [
        ("DELETE", "/users/1"),
        ("DELETE", "/users/2"),
    ]
    assert users.success[0].value == "2 users were deleted."


def test_bulk_delete_stops_at_an_error(api: Api, users: AppTest) -> None:
    """It says how many are deleted, and goes on with the next click."""
    api.responders["DELETE /users/1"] = data(None, status=204)
    api.responders["DELETE /users/2"] = data({"detail": "no"}, status=403)
    choose(users, 0, 1)
    button(users, "Delete").click().run()
    button(users, "Delete for good").click().run()
    assert errors(users)[0].endswith("1 of them were deleted before.")
    api.responders["DELETE /users/2"] = data(None, status=204)
    button(users, "Delete for good").click().run()
    assert users.success[0].value == "2 users were deleted."
    assert [write[1] for write in api.writes if write[0] == "DELETE"] == [
        "/users/1", "/users/2", "/users/2",
    ]  # fmt: skip


def test_coming_back_loads_again(api: Api, users: AppTest) -> None:
    """A viewer who comes back to the page sees new data."""
    turn_to(users, "")
    api.pages({5: BOB})
    turn_to(users, "users")
    assert names(users) == ["bob"]
