"""What the browser gets around Streamlit's page: an outline before it, and `page.js` beside it.

Streamlit has one index.html for all pages and draws everything else with JavaScript. So only a
script in this file can tell the viewer that the page cannot connect, or that a part did not load.
"""

import html
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from streamlit import config, file_util

HERE, INDEX = Path(__file__).parent, Path(file_util.get_static_dir(), "index.html")
OUTLINE = '<body><div id="outline" aria-hidden="true"><hr><i></i><i></i><i></i></div>'


async def page(request: Request) -> HTMLResponse:
    """Return Streamlit's index.html with the outline, the style and the script."""
    style, script, index = (
        path.read_text(encoding="utf-8") for path in (HERE / "page.css", HERE / "page.js", INDEX)
    )
    # page.js compares this name with the one that the browser shows.
    host = html.escape(request.headers.get("host", ""))
    head = f"<head><style>{style}</style><script>{script}</script>"
    index = index.replace("<html", f'<html data-host="{host}"', 1).replace("<head>", head, 1)
    headers = {"Cache-Control": "no-cache"}
    return HTMLResponse(index.replace("<body>", OUTLINE, 1), headers=headers)


def routes(*pages: str) -> list[Route]:
    """Return the routes of the pages, also below a prefix (server.baseUrlPath)."""
    base = f"/{config.get_option('server.baseUrlPath').strip('/')}".rstrip("/")
    paths = {base or "/", *(f"{base}/{name}" for name in ("", *pages))}
    return [Route(path, page) for path in sorted(paths)]
