"""What the API publishes about itself: the OpenAPI document and the page that shows it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

CONTRACT = Path(__file__).parents[2] / "contract" / "openapi.json"


def operations(api: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    paths = api.get("/openapi.json").json()["paths"]
    return [(verb, path, call) for path, calls in paths.items() for verb, call in calls.items()]


def test_the_contract_folder_is_up_to_date(api: TestClient) -> None:
    """contract/openapi.json is what the API publishes; `python3 lab.py lock` writes it again."""
    assert json.loads(CONTRACT.read_text(encoding="utf-8")) == api.get("/openapi.json").json()


def test_every_call_declares_its_error_responses(api: TestClient) -> None:
    """Each call declares the host and parameter checks; writes declare the origin check."""
    for verb, path, call in operations(api):
        declared = set(call["responses"])

        assert {"400", "422"} <= declared, path
        assert ("403" in declared) == (verb != "get"), path
        assert ("404" in declared) == ("{user_id}" in path), path


def test_bounds_and_examples_are_published(api: TestClient) -> None:
    """The document has the bounds of each parameter, and an example."""
    for _, path, call in operations(api):
        for parameter in call.get("parameters", []):
            schema = parameter["schema"]
            bounds = {
                "integer": ("minimum", "maximum"),
                "string": ("maxLength",),
            }

            assert all(bound in schema for bound in bounds[schema["type"]]), path
            assert "example" in schema, path


def test_the_examples_work(api: TestClient) -> None:
    """The examples of the parameters, sent as they are published, create a user and find it."""
    calls = {(verb, path): call for verb, path, call in operations(api)}
    created = api.post("/users/", params={
        parameter["name"]: parameter["schema"]["example"]
        for parameter in calls["post", "/users/"]["parameters"]
    })  # fmt: skip
    user_id = calls["get", "/users/{user_id}"]["parameters"][0]["schema"]["example"]

    assert created.status_code == 201
    assert api.get(f"/users/{user_id}").status_code == 200


@pytest.mark.parametrize(
    "name", ["Al", "x" * 100, "  Zoë ", "李", " ", "", "a\nb", "a\u202eb", "x" * 101]
)
def test_the_published_pattern_of_a_name_is_the_rule(api: TestClient, name: str) -> None:
    """The pattern in the document matches exactly the names that the API accepts."""
    (schema,) = [
        parameter["schema"]
        for verb, path, call in operations(api)
        for parameter in call.get("parameters", [])
        if (verb, path, parameter["name"]) == ("post", "/users/", "name")
    ]
    response = api.post("/users/", params={"user_id": 1, "name": name, "age": 1})

    assert bool(re.search(schema["pattern"], name)) == (response.status_code == 201)


def test_swagger_works_without_internet(api: TestClient) -> None:
    """/docs loads only files that the API serves itself."""
    page = api.get("/docs").text
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert len(addresses) == 3
    assert "http" not in page.lower().replace("httpvalidation", "")
    for address in addresses:
        assert api.get(address).status_code == 200, address
