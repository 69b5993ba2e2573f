"""The world and the check of mission 16: starts a Compose file, and tries to connect to it."""

from dataclasses import dataclass

from learn.containers import (
    IMAGE,
    docker,
    docker_variables,
    remove_old,
    require_docker,
    run,
)
from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World, free_port

CREATED_SECONDS = 8  # after the start, at most
ENOUGH_LINES = 15  # of the simulator: then it will not create anybody any more
UNRESOLVED = ("name resolution", "not known", "No address")
OUTSIDER = """
import socket, sys
gateway = [line.split()[2] for line in open("/proc/net/route") if line.split()[1] == "00000000"]
host = socket.inet_ntoa(bytes.fromhex(gateway[0])[::-1]) if gateway else "127.0.0.1"
for target in sys.argv[1:]:
    name, port = target.replace("host:", host + ":").split(":")
    try:
        socket.create_connection((name, int(port)), 1)
        print("connected to", target)
    except OSError:
        pass
"""

MISSION = Mission(
    minutes=10,
    aim="connect services by name in a network of Docker, and publish a port only to this machine",
    prediction="In the starter the simulator asks http://127.0.0.1:8000, where the API listens "
    "on this machine. How many users does it create?",
    why="Inside of the simulator's container, 127.0.0.1 is this container. No API listens there.",
    result="The starter creates nobody; the solution creates users, and no outsider can connect.",
    board="A container gets a new address at each start. Who knows the new address, and how long "
    "may a client remember the old one?",
    hints=(
        "What is `127.0.0.1` inside of a container? And which two services are in one network?",
        "A service's name in the Compose file is its host name, for services in the same network. "
        'A published port "8000:8000" is open on all addresses of the machine.',
        "API_BASE_URL: http://api:8000; `networks: [inside]` for both; "
        'ports: ["127.0.0.1:${PORT}:8000"].',
    ),
    real=(
        Real(
            "data_ingestion_simulator/client.py",
            "Client.check_health",
            "waits until the name resolves and the API responds; docker-compose.yml has the names",
        ),
        Real("data_ingestion_simulator/settings.py", "Settings", "API_BASE_URL, a variable"),
        Real(
            "tests/test_containers.py",
            "test_only_this_machine_can_connect",
            "docker-compose.yml publishes its two ports on 127.0.0.1; this test tries others",
        ),
    ),
    limit_seconds=90,
    needs_docker=True,
)


@dataclass
class Compose:
    """A Compose project, made of what the learner's program has printed."""

    command: list[str]
    project: str
    file: str
    port: int

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        """Run a command of Compose; return its exit code and output."""
        options = ["--file", self.file, "--project-name", self.project]
        return await run(*self.command, *options, *arguments, seconds=60, PORT=str(self.port))

    async def has_tried(self) -> bool:
        """Return whether the simulator has created somebody, or has tried often enough."""
        _, logs = await self("logs", "--no-color", "simulator")
        return "created" in logs or len(logs.splitlines()) > ENOUGH_LINES


async def compose_command() -> list[str]:
    """Return the command of Compose 2 or 1. Raises Void."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if not (await run(*command, "version"))[0]:
            return command
    raise Void("this mission needs Docker with Compose: install Docker Compose, and check again")


async def check(world: World) -> None:
    """Start what the program prints; look at it; remove it."""
    await require_docker()
    command = await compose_command()
    await remove_old()
    port = free_port()
    program = await world.run(10, PORT=str(port), **docker_variables())
    file = world.folder / "docker-compose.yml"
    file.write_text(program.output, encoding="utf-8")
    world.programs.remove(program)  # so the verdict does not repeat the Compose file
    compose = Compose(command, f"learn-{port}", str(file), port)
    try:
        code, output = await compose("up", "--detach")
        if code:
            last = (output.splitlines() or [""])[-1]
            look = f"{world.file.name}: COMPOSE"
            if last.startswith("yaml"):
                look += ", at about this line: is it indented as in the starter?"
            raise Fail("Compose starts the file", "Compose could not start it", last, look)
        await judge(world, compose)
    finally:
        await compose("down", "--timeout", "1", "--volumes", "--remove-orphans")


async def judge(world: World, compose: Compose) -> None:
    """Look at the running services. Raises Fail, Void."""
    file = world.file.name
    await world.until(compose.has_tried, CREATED_SECONDS, 0.3)
    _, logs = await compose("logs", "--no-color", "simulator")
    number = logs.count("created")
    world.measured = f"{number} users in the first seconds"
    if not world.faults:
        raise Void("no outsider tried to connect")
    last = (logs.splitlines() or [""])[-1]
    if not number:
        seen = "the simulator created nobody"
        if any(words in last for words in UNRESOLVED):
            seen += ": it could not resolve the name"
        look = f"{file}: API_BASE_URL, and the networks of both services"
        raise Fail("the simulator prints `created`", seen, last, look)
    response = await world.call("GET", f"http://127.0.0.1:{compose.port}/")
    if response.status != 200:
        seen = "this machine cannot connect to the API"
        raise Fail(
            "http://127.0.0.1:PORT responds with 200", seen, response.error, f"{file}: ports"
        )
    await refuse_outsiders(compose, file)


async def refuse_outsiders(compose: Compose, file: str) -> None:
    """Raise Fail if another machine, or a container of another network, can connect."""
    _, container = await compose("ps", "--quiet", "api")
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    _, addresses = await docker("inspect", "--format", form, container)
    form = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}"
    _, published = await docker("inspect", "--format", form, container)
    targets = [f"{address}:8000" for address in addresses.split()] + [f"host:{compose.port}"]
    name = f"{compose.project}-outsider"
    _, connected = await docker(
        "run", "--rm", "--name", name, IMAGE, "python", "-c", OUTSIDER, *targets
    )
    foreign = set(published.split()) - {"127.0.0.1", "::1"}
    if foreign or f"host:{compose.port}" in connected:
        raise Fail(
            "only this machine can connect to the port",
            "the port of the API is open for other machines",
            f"it is published on {', '.join(sorted(foreign)) or 'this machine'}",
            f"{file}: ports",
        )
    if connected:
        raise Fail(
            "a container of another network cannot connect",
            "a container of another network could connect to the API",
            connected,
            f"{file}: networks",
        )
