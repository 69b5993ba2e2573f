"""What is put around Streamlit's page, and what is left alone."""

import re
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from frame import Frame

PAGE = '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body><p>Hi</p></body></html>'


async def page(_: object) -> Response:
    return HTMLResponse(PAGE, headers={"ETag": '"1"', "Last-Modified": "today"})


async def numbers(_: object) -> Response:
    return JSONResponse({"html": "<body>"})


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = Starlette(routes=[Route("/", page), Route("/numbers", numbers)])
    with TestClient(Frame(app)) as client:
        yield client


def test_a_page_gets_the_outline_and_the_script(client: TestClient) -> None:
    """Both are before Streamlit's own scripts; the length is right, and nothing is cached."""
    response = client.get("/", headers={"Accept": "text/html", "If-None-Match": '"1"'})
    assert response.status_code == 200
    assert re.search("<head><style>.*</style><script>.*</script><title>", response.text, re.S)
    assert '<body><div id="outline" aria-hidden="true">' in response.text
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert not {"etag", "last-modified"} & set(response.headers)


def test_the_name_of_the_page_is_text(client: TestClient) -> None:
    """Whatever a client sends as its Host, it is no HTML."""
    headers = {"Accept": "text/html", "Host": 'a"><script>alert(1)</script>'}
    assert 'data-host="a&quot;&gt;&lt;script&gt;' in client.get("/", headers=headers).text


@pytest.mark.parametrize(("path", "accept"), [("/numbers", "*/*"), ("/", "application/json")])
def test_other_responses_are_left_alone(client: TestClient, path: str, accept: str) -> None:
    """Only what a browser opens as a page is changed."""
    response = client.get(path, headers={"Accept": accept})
    assert "outline" not in response.text
