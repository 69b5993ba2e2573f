"""The cart that mission 13 rolls out: VERSION, at PORT; it is ready a moment after its start."""

import asyncio
import os
import time

READY_AT = time.monotonic() + float(os.environ["READY_SECONDS"])  # until then it reads its data
REQUEST_SECONDS, LARGE_SECONDS = 0.1, 2


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to one request: /health at once, all others when ready."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    status = b"200 OK"
    if path != b"/health" and time.monotonic() < READY_AT:
        status = b"503 Service Unavailable"
    elif path.startswith(b"/carts"):
        await asyncio.sleep(LARGE_SECONDS if path == b"/carts/large" else REQUEST_SECONDS)
    body = os.environ["VERSION"].encode()
    writer.write(b"HTTP/1.1 %s\r\nConnection: close\r\n\r\n%s" % (status, body))
    await writer.drain()
    writer.close()


async def main() -> None:
    """Listen until the process is ended."""
    server = await asyncio.start_server(respond, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
