"""Error responses: their one shape, and what is wrong with the parameters of a request."""

import pytest
from starlette.testclient import TestClient

CREATE = "/users/?user_id=1&name=Bo&age=1"


def validation_errors(api: TestClient, method: str, path: str) -> list[tuple[str, str]]:
    """Return the type and the location of each error in the 422 response to a request."""
    response = api.request(method, path)
    assert response.status_code == 422
    return [(each["type"], "/".join(each["loc"])) for each in response.json()["detail"]]


def test_every_error_has_the_same_shape(api: TestClient) -> None:
    """Errors are `{"detail": …}` in JSON, wherever in the API they are raised."""
    responses = [
        api.get("/nowhere"),
        api.get("/static/nowhere"),
        api.get("/users/9"),
        api.get("/users/x"),
        api.request("PATCH", "/users/"),
        api.get("/users/", headers={"host": "evil.example"}),
        api.post(CREATE, headers={"origin": "null"}),
        api.post("/users/batch", content="[]"),
    ]

    for response in responses:
        assert response.status_code >= 400
        assert response.headers["content-type"] == "application/json"
        assert list(response.json()) == ["detail"]


def test_a_repeated_parameter_is_rejected(api: TestClient) -> None:
    """A parameter may be given once, even with equal values."""
    assert validation_errors(api, "POST", CREATE + "&age=2") == [("repeated", "query/age")]
    assert validation_errors(api, "POST", CREATE + "&age=1") == [("repeated", "query/age")]
    limits = "/users/?limit=1&limit=2"
    assert validation_errors(api, "GET", limits) == [("repeated", "query/limit")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CREATE + "&admin=true"),
        ("POST", CREATE + "&admin"),
        ("GET", "/users/?admin=1"),
        ("GET", "/users/1?admin=1"),
        ("DELETE", "/users/1?admin=1"),
        ("GET", "/health?admin=1"),
        ("GET", "/stats/ages?admin="),
    ],
)
def test_an_unknown_parameter_is_rejected(api: TestClient, method: str, path: str) -> None:
    """It may be a spelling mistake."""
    assert validation_errors(api, method, path) == [("extra_forbidden", "query/admin")]


@pytest.mark.parametrize("path", ["/users/?user_id=1&name=Bo", "/users/?name=Bo&age=1", "/users/"])
def test_a_missing_parameter_is_rejected(api: TestClient, path: str) -> None:
    """A create needs all three parameters; each missing one is named."""
    missing = [name for name in ("user_id", "name", "age") if f"{name}=" not in path]

    assert validation_errors(api, "POST", path) == [
        ("missing", f"query/{name}") for name in missing
    ]


def test_a_long_value_is_not_repeated(api: TestClient) -> None:
    """A response has at most 100 characters of an invalid value, wherever that value was."""
    for path in (
        f"/users/?user_id=1&name=Bo&age={'9' * 60_000}",
        f"/users/?user_id=1&age=1&name={'n' * 60_000}",
        CREATE + f"&{'p' * 60_000}=1",
    ):
        response = api.post(path)

        assert response.status_code == 422
        assert len(response.content) < 500
        assert max(response.text.count(letter * 101) for letter in "9np") == 0


@pytest.mark.parametrize("path", ["/users/?limit=x", "/users/?after=x", "/users/?limit=0"])
def test_one_mistake_is_one_error(api: TestClient, path: str) -> None:
    """Its `loc` is the name of the parameter, also if the parameter may be left out."""
    [(_, place)] = validation_errors(api, "GET", path)

    assert place == "query/" + path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize(("method", "path"), [("POST", "/users/"), ("PUT", "/users/1")])
def test_values_in_a_body_get_the_right_address(api: TestClient, method: str, path: str) -> None:
    """Many APIs take JSON, so the message shows how to send the values here."""
    response = api.request(method, path, json={"user_id": 1, "name": "Al", "age": 1})
    [error] = response.json()["detail"]

    assert response.status_code == 422
    assert error["loc"] == ["body"]
    assert "POST /users/?user_id=123&name=Alice&age=30" in error["msg"]


def test_an_unknown_parameter_names_the_known_ones(api: TestClient) -> None:
    """So a client sees what there is instead."""
    [error] = api.get("/users/?offset=3").json()["detail"]

    assert error["msg"] == "Unknown parameter; known: limit, after, name"
