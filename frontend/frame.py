"""What the browser gets around Streamlit's page: an outline before it, and `page.js` beside it.

Streamlit has one index.html for all pages and draws everything else with JavaScript. So only a
script in this file can tell the viewer that the page cannot connect, or that a part did not load.
"""

import re
from collections.abc import Awaitable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from streamlit import config, file_util

PORTS, HOSTS = {"http": 80, "https": 443}, "server.allowedHosts"
HERE, INDEX = Path(__file__).parent, Path(file_util.get_static_dir(), "index.html")
OUTLINE = '<body><div id="outline" aria-hidden="true"><hr><i></i><i></i><i></i></div>'


async def page(_: Request) -> HTMLResponse:
    """Return Streamlit's index.html with the outline, the style and the script."""
    style, script, index = (
        path.read_text(encoding="utf-8") for path in (HERE / "page.css", HERE / "page.js", INDEX)
    )
    head = f"<head><style>{style}</style><script>{script}</script>"
    index = index.replace("<head>", head, 1).replace("<body>", OUTLINE, 1)
    return HTMLResponse(index, headers={"Cache-Control": "no-cache"})


def routes(*pages: str) -> list[Route]:
    """Return the routes of the pages."""
    return [Route(f"/{name}", page) for name in ("", *pages)]


class PublicAddresses:
    """ASGI middleware that opens the server for pages at PUBLIC_URL, with the rules of the API.

    Streamlit's own check of an Origin compares only names, and it asks a server on the internet
    for the address of this machine. So an Origin that is allowed here does not reach it.
    """

    def __init__(self, app: ASGIApp, urls: Sequence[str]) -> None:
        self._app, self._origins = app, {_origin(url) for url in urls}
        self._prefixes = [f"{path}/" for url in urls if (path := urlsplit(url).path)]
        names = [urlsplit(url).hostname for url in urls]
        config.set_option(HOSTS, [*config.get_option(HOSTS), *names])

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for prefix in self._prefixes:  # which a proxy may have left in the path
            if scope.get("path", "").startswith(prefix):
                scope = {**scope, "path": scope["path"][len(prefix) - 1 :]}
        if scope["type"] == "websocket":
            sent = Headers(scope=scope)
            # A port forwarder may rewrite Host or Origin to the server's own address.
            own = [f"{name}:{scope['server'][1]}" for name in ("localhost", "127.0.0.1", "[::1]")]
            hosts = sent.get("host", ""), *own
            allowed = self._origins | {_origin(f"{s}://{name}") for s in PORTS for name in hosts}
            if "origin" in sent and _origin(sent["origin"]) not in allowed:
                return WebSocket(scope, receive, send).close()  # status 403
            rest = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            scope = {**scope, "headers": rest}
        return self._app(scope, receive, send)


def _origin(url: str) -> str:
    scheme, _, rest = url.lower().partition("://")
    name = rest.partition("/")[0]
    return f"{scheme}://{name}" + ("" if re.search(r":\d+$", name) else f":{PORTS.get(scheme)}")
