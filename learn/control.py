"""Switches the faults of proxies over HTTP, on a local port."""

import asyncio
import json
import re
from asyncio import LimitOverrunError
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

from learn.proxy import Proxy


async def control(proxies: list[Proxy], port: int = 0) -> str:
    """Serve GET / (what is on), PUT /SERVICE/KIND?share=0.3, DELETE / (all off); return the URL."""

    async def serve(reader: Reader, writer: Writer) -> None:
        status = "400 Bad Request"
        with suppress(OSError, ValueError, LookupError, TypeError, EOFError, LimitOverrunError):
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode("latin-1")
            method, target = head.split(" ", 2)[:2]
            host = re.search(r"\r\nhost: *(127\.0\.0\.1|localhost)(:\d+)?\r\n", head, re.I)
            url = urlsplit(target if host else "")  # another name: a page of another site asks
            is_done = method == "GET"
            for proxy in proxies if host else ():
                if method == "DELETE" and url.path in ("/", f"/{proxy.service}"):
                    is_done = True
                    proxy.off()
                if method == "PUT" and url.path.startswith(f"/{proxy.service}/"):
                    values = {key: float(value) for key, value in parse_qsl(url.query)}
                    proxy.set(url.path.rpartition("/")[2], **values)
                    is_done = True
            status = "200 OK" if host and is_done else status
        body = json.dumps([fault for proxy in proxies for fault in proxy.faults()])
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        writer.write(f"{head}{body}".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=8192)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
