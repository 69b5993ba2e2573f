"""What the browser gets around Streamlit's page: an outline before it, and `page.js` beside it.

Streamlit has one index.html for all pages and draws everything else with JavaScript. So only a
script in this file can tell the viewer that the page cannot connect, or that a part did not load.
"""

import html
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).parent
OUTLINE = b'<div id="outline" aria-hidden="true"><hr><i></i><i></i><i></i></div>'
# Without these the response is complete and not compressed, so something can be added to it.
REMOVED = {b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"}
REPLACED = {b"content-length", b"etag", b"last-modified"}


class Frame:
    """ASGI middleware that adds the outline, the style and the script to each page of HTML."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        style, script = ((HERE / name).read_bytes() for name in ("page.css", "page.js"))
        self._head = b"<head><style>%b</style><script>%b</script>" % (style, script)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; only the pages that a browser opens are changed."""
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or b"text/html" not in headers.get(b"accept", b""):
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def change(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                # page.js compares this name with the one that the browser shows.
                host = html.escape(headers.get(b"host", b"").decode("latin-1")).encode()
                page = bytes(body).replace(b"<html", b'<html data-host="%b"' % host, 1)
                page = page.replace(b"<head>", self._head, 1).replace(
                    b"<body>", b"<body>" + OUTLINE, 1
                )
                fields = [each for each in start["headers"] if each[0] not in REPLACED]
                fields.append((b"content-length", str(len(page)).encode()))
                await send({**start, "headers": fields})
                await send({"type": "http.response.body", "body": page})

        kept = [each for each in scope["headers"] if each[0] not in REMOVED]
        await self._app({**scope, "headers": kept}, receive, change)
