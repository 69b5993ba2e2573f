"""The world and the check of mission 15: looks at a container, fills its memory, and stops it."""

import contextlib
import json
import re
from typing import Any

from learn.containers import IMAGE, docker, docker_variables, remove_old, require_docker
from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World, free_port

HUNGRY = "x = bytearray(b'x' * 600_000_000); print(len(x))"
MOST_BYTES = 256 * 2**20
USAGE = re.compile("^Usage|--help")  # what follows an error of `docker`
NO_FAULT = "no program tried to take too much memory"
KILLED = "137"  # 128 + SIGKILL
STOP_SECONDS = 3

MISSION = Mission(
    minutes=20,
    aim="limit what a process in a container may do, and make `docker stop` graceful",
    prediction="`docker stop` sends SIGTERM to process 1 of the starter's container and, some "
    "seconds later, SIGKILL. Which exit code will it have: 0, 143 (SIGTERM) or 137 (SIGKILL)?",
    why="Process 1 has no handler for SIGTERM, so the kernel does not end it. Docker waits, and "
    "then sends SIGKILL, which has the number 9: 128 + 9 is 137.",
    result="The starter is root, takes 600 MB, and ends with 137; the solution is user 10001, "
    "is limited to 128 MB, and ends with 143.",
    board="The kernel limits a container, and it is one kernel for all containers. What does a "
    "virtual machine isolate that a container does not?",
    hints=(
        "Three options of `docker run`: for the user, for the memory, and for a small process 1. "
        "Each word of an option is its own string in the list.",
        "`--user` takes a number. A limit for memory is `--memory`; `--memory-reservation` is "
        "none. Process 1 needs a handler for SIGTERM, and `--init` adds such a process.",
        'OPTIONS = ["--user", "10001", "--memory", "128m", "--init"]',
    ),
    real=(
        Real(
            "data_ingestion_simulator/main.py",
            "run",
            "stops on SIGTERM; its Dockerfile has USER 10001",
        ),
        Real(
            "tests/test_containers.py",
            "test_least_privilege",
            "docker-compose.yml has mem_limit and cap_drop; this test looks into the containers",
        ),
        Real("tests/test_containers.py", "test_stopping_is_quick_and_clean", "no exit code 137"),
    ),
    limit_seconds=60,
    needs_docker=True,
)


async def check(world: World) -> None:
    """Start the container; look at it; remove it."""
    await require_docker()
    await remove_old()
    name = f"learn-{free_port()}"  # `remove_old` asks for this port
    try:
        variables = {"CONTAINER": name, "IMAGE": IMAGE, **docker_variables()}
        await start(world, variables)
        await judge(world, name)
    finally:
        for program in world.programs:
            with contextlib.suppress(Fail):  # its `docker run` must not come after our `docker rm`
                await program.ended(5)
        await docker("rm", "--force", "--volumes", name)


async def start(world: World, variables: dict[str, str]) -> None:
    """Run the program. Raises Fail with Docker's own error if Docker rejects the options."""
    try:
        await world.run(15, **variables)
    except Fail:
        if not world.faults:
            raise Void(NO_FAULT) from None
        said, _, error = world.programs[-1].output.partition("Traceback")
        lines = [line for line in said.splitlines() if line.strip() and not USAGE.search(line)]
        if not lines or "CalledProcessError" not in error:
            raise
        look = f"{world.file.name}: OPTIONS"
        if lines and lines[-1].startswith("unknown"):
            look += ": is each word of an option its own string in the list?"
        seen = "Docker could not start the container"
        raise Fail("`docker run` starts the container", seen, lines[-1], look) from None


async def inspect(name: str) -> Any:
    """Return what Docker says about a container, or None."""
    code, output = await docker("inspect", "--format", "{{json .}}", name)
    return None if code else json.loads(output)


async def judge(world: World, name: str) -> None:
    """Look at a container. Raises Fail, Void."""
    file = world.file.name
    code, status = await docker("exec", name, "cat", "/proc/1/status")
    if code:
        _, logs = await docker("logs", "--tail", "1", name)
        expected = "a container with the name in CONTAINER runs"
        raise Fail(expected, f"no such container runs: {status[-200:]}", logs, f"{file}: COMMAND")
    uid = status.partition("\nUid:")[2].split()[0]
    about, took = await inspect(name), 1
    if world.faults:
        took, _ = await docker("exec", name, "python", "-c", HUNGRY)
    await docker("stop", "-t", str(STOP_SECONDS), name)
    ended = await inspect(name)
    if not ended:
        expected, seen = "the check can read the exit code", "after the stop the container was gone"
        raise Fail(expected, seen, "the option --rm removes it", f"{file}: OPTIONS")
    ended_with = str(ended["State"]["ExitCode"])
    world.measured = f"exit code {ended_with}"
    if not world.faults:
        raise Void(NO_FAULT)
    judge_options(about, uid, took, f"{file}: OPTIONS")
    if ended_with == KILLED:
        raise Fail(
            "SIGTERM ends the container: exit code 143 or 0",
            f"docker stop had to kill the container: exit code {KILLED}",
            f"{STOP_SECONDS} s after SIGTERM it still ran",
            f"{file}: OPTIONS: which program is process 1?",
        )


def judge_options(about: Any, uid: str, took: int, look: str) -> None:
    """Raise Fail if a container may do too much, or gets another signal than SIGTERM."""
    if uid == "0":
        seen = "process 1 of the container is root (uid 0)"
        example = "who breaks out of this container is root on the machine"
        raise Fail("process 1 is an ordinary user", seen, example, look)
    if not took:
        seen = "a program took 600 MB in the container, and nothing stopped it"
        raise Fail("the kernel kills what takes more than 256 MB", seen, "exit code 0", look)
    if (limit_bytes := about["HostConfig"]["Memory"]) not in range(1, MOST_BYTES + 1):
        limit = f"{limit_bytes // 2**20} MB" if limit_bytes else "no limit"
        seen = f"the memory that the container may use: {limit}"
        raise Fail("the container may use at most 256 MB", seen, "see `docker inspect`", look)
    signal = about["Config"].get("StopSignal") or "SIGTERM"
    if signal not in ("SIGTERM", "TERM", "15"):
        seen = f"docker stop sends another signal: {signal}"
        raise Fail("docker stop sends SIGTERM", seen, "see the option --stop-signal", look)
