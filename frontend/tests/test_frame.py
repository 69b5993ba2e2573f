"""What is put around Streamlit's page, and at which addresses."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit import config

from frame import routes

PAGES = ("live", "users", "system")


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=routes(*PAGES)))


@pytest.mark.parametrize("path", ["/", "/users", "/system", "/live?bin=5"])
def test_a_page_gets_the_outline_and_the_script(client: TestClient, path: str) -> None:
    """Both are before Streamlit's own scripts, and a browser asks for the page each time."""
    response = client.get(path)
    assert response.status_code == 200
    assert re.search("<head><style>.*</style><script>.*</script>.*static/js/", response.text, re.S)
    assert '<body><div id="outline" aria-hidden="true">' in response.text
    assert response.headers["Cache-Control"] == "no-cache"


def test_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a path of a proxy the pages have the same frame."""
    monkeypatch.setattr(config, "get_option", lambda _: "/lab/")
    paths = {route.path for route in routes(*PAGES)}
    assert paths == {"/lab", "/lab/", "/lab/live", "/lab/users", "/lab/system"}
