"""Viewers of the dashboard without a browser. They ask for each redraw, as the page's timer does.

Arguments: the WebSocket's address, the number of viewers, redraws of each, seconds between two.
The environment is the dashboard's.
"""

import asyncio
import sys

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol


def redraw(fragment: str) -> bytes:
    """Return the message that asks for a fragment, or for the whole page."""
    message = BackMsg()
    message.rerun_script.fragment_id = fragment
    return bytes(message.SerializeToString())


async def watch(url: str, redraws: int, seconds: float) -> None:
    """Open the page, and let its fragments be drawn `redraws` times."""
    fragments = set[str]()
    async with connect(url, subprotocols=[Subprotocol("streamlit")], max_size=None) as socket:
        await socket.send(redraw(""))
        for _ in range(redraws + 1):
            while True:
                message = ForwardMsg()
                message.ParseFromString(bytes(await socket.recv(decode=False)))
                if message.WhichOneof("type") == "script_finished":
                    break
                for each in (message.auto_rerun.fragment_id, message.delta.fragment_id):
                    fragments |= {each} - {""}
            await asyncio.sleep(seconds)
            for fragment in fragments:
                await socket.send(redraw(fragment))


async def main(url: str, viewers: str, redraws: str, seconds: str) -> None:
    """Run all viewers, and return when the last one has seen enough."""
    each = (watch(url, int(redraws), float(seconds)) for _ in range(int(viewers)))
    await asyncio.gather(*each)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
