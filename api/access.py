"""Which requests may reach a route: the checks of `Host`, `Origin` and the token.

A web page of another site can send requests to localhost from the user's own browser. Two headers
reveal such requests, because a page cannot forge them: `Origin` names the page's site, and `Host`
is a foreign name if that name resolves to this machine (DNS rebinding).
"""

import re
import secrets
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import Scope

from settings import LOCAL_HOSTS, Settings

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
PROBES = {"/health", "/ready"}  # probes use any name or address, and learn nothing secret
DEFAULT_PORTS = {"http": "80", "https": "443"}
FORWARDED_PREFIX = (b"x-forwarded-prefix", b"x-forwarded-context")

_port_pattern = re.compile(":[0-9]+$")

Headers = dict[bytes, bytes]  # the last value of each header


class Access:
    """Decides from the settings which requests are rejected, and which path prefix they have."""

    def __init__(self, settings: Settings) -> None:
        urls = [urlsplit(url) for url in settings.public_url]
        origins = (*settings.public_url, *settings.allowed_origins)
        self._origins = {_origin(origin) for origin in origins}
        self._public_hosts = {url.netloc for url in urls}
        self._prefixes = {url.netloc: url.path for url in urls if url.path}
        token = settings.api_token
        self._token = None if token is None else token.encode()
        names = {*settings.allowed_hosts, *(_port_pattern.sub("", url.netloc) for url in urls)}

        @lru_cache(maxsize=100)  # clients repeat the same header
        def is_allowed(host: bytes) -> bool:
            return "*" in names or _port_pattern.sub("", host.decode("latin-1").lower()) in names

        self._is_allowed_host = is_allowed

    def refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return the error response for a request that may not reach its route."""
        if scope["path"] not in PROBES and (refusal := self._wrong_host(scope)):
            return refusal
        if scope["path"].endswith("\n"):  # "$" in Starlette's patterns ignores it
            return error(404, "Not Found")
        if self._prefixes:
            scope["root_path"] = self._prefix(headers) or scope["root_path"]
        if scope["method"] in SAFE_METHODS:
            return None
        for name, value in scope["headers"]:
            if name == b"origin" and not self._may_write(value, headers[b"host"], scope):
                return error(403, "A page of another site may not write here")
        if self._token and not _has_token(headers, self._token):
            return error(401, "A write needs the API's token", {"WWW-Authenticate": "Bearer"})
        return None

    def _wrong_host(self, scope: Scope) -> JSONResponse | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not hosts and scope["http_version"] == "1.0":
            return None  # this version need not send it; browsers do not use this version
        if len(hosts) != 1:
            return error(400, "A request has one Host header")
        if not self._is_allowed_host(hosts[0]):
            return error(
                400, "The Host header names a host that is not in ALLOWED_HOSTS or PUBLIC_URL"
            )
        return None

    def _may_write(self, origin: bytes, host: bytes, scope: Scope) -> bool:
        """Return whether a page of this origin may write: the API's own, or one in the settings."""
        sent, name = origin.decode("latin-1").lower(), host.decode("latin-1").lower()
        scheme = sent.partition("://")[0]
        if scheme not in DEFAULT_PORTS:
            return False
        if _origin(sent) in {_origin(f"{scheme}://{name}"), *self._origins}:
            return True
        # A port forwarder may rewrite Origin, but not Host, to the API's own local address.
        port = (scope["server"] or ("", 0))[1]
        own = {_origin(f"{scheme}://{local}:{port}") for local in LOCAL_HOSTS}
        return name in self._public_hosts and _origin(sent) in own

    def _prefix(self, headers: Headers) -> str:
        """Return the path before the API's own path, if the request came by a public address."""
        host = headers.get(b"x-forwarded-host", headers.get(b"host", b""))
        if prefix := self._prefixes.get(host.decode("latin-1").lower()):
            return prefix
        given = {headers.get(name, b"").decode("latin-1").rstrip("/") for name in FORWARDED_PREFIX}
        return next((path for path in self._prefixes.values() if path in given), "")


def error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error response in the form that all error responses have."""
    return JSONResponse({"detail": detail}, status, headers)


def _origin(url: str) -> str:
    """Return the scheme, host and port of an address; the default port is always written."""
    scheme, _, rest = url.partition("://")
    netloc = rest.partition("/")[0]
    has_port = _port_pattern.search(netloc)
    return f"{scheme}://{netloc}" + ("" if has_port else f":{DEFAULT_PORTS[scheme]}")


def _has_token(headers: Headers, token: bytes) -> bool:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), token)
