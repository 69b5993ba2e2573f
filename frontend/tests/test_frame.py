"""What is put around Streamlit's page, and at which addresses."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

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
