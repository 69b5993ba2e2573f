"""Docker, for the missions that need it."""

import asyncio
import contextlib
import os
import re
import socket
from typing import Any

from learn.verdict import Void

IMAGE = "python:3.13-slim"  # the image from which those of our services are built
VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG")


def docker_variables() -> Any:
    """Return the user's variables that the command `docker` needs."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


async def run(*command: str, seconds: float = 30, **variables: str) -> tuple[int, str]:
    """Run a command; return its exit code and output. It is 127 if there is no such command."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, str(error)
    working = asyncio.create_task(process.communicate())
    try:
        output, _ = await asyncio.wait_for(asyncio.shield(working), seconds)
    except TimeoutError:
        process.kill()
        return 124, f"no result after {seconds:g} s"
    except asyncio.CancelledError:  # half a start could not be removed
        await asyncio.wait({working}, timeout=seconds)
        raise
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output.decode(errors="replace"))  # colors
    return process.returncode or 0, text.strip()


async def docker(*arguments: str, seconds: float = 30) -> tuple[int, str]:
    """Run a command of Docker; return its exit code and output."""
    return await run("docker", *arguments, seconds=seconds)


async def require_docker() -> None:
    """Raise Void, with a sentence for the learner, unless Docker and the image are there."""
    code, _ = await docker("version", "--format", "{{.Server.Version}}", seconds=10)
    if code:
        raise Void("this mission needs Docker: start Docker, or install it, and check again")
    code, _ = await docker("image", "inspect", IMAGE)
    if code:
        raise Void(f"this mission needs an image of Docker: run `docker pull {IMAGE}` once")


async def remove_old() -> None:
    """Remove what killed checks have left: the port in the name is no longer reserved."""
    for listing, removal in (
        ("ps --all --format {{.Names}}", "rm --force --volumes"),
        ("network ls --format {{.Name}}", "network rm"),
    ):
        _, listed = await docker(*listing.split(), "--filter", "name=learn-")
        for name, port in re.findall(r"^(learn-(\d{5})(?!\d).*)$", listed, re.M):
            with socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", int(port)))  # as `free_port` does
                await docker(*removal.split(), name)
