"""The command as a person or a script uses it: flags, output, exit codes."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_api
import pytest
from fake_api import FakeApi, Handler, Request, respond, until
from simulator_process import SimulatorProcess

from settings import SETTINGS, read_settings

FOLDER = Path(__file__).parent.parent


def command(*flags: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `python main.py` to its end."""
    return subprocess.run(
        [sys.executable, "main.py", *flags],
        cwd=FOLDER,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def simulator(api: FakeApi, *flags: str, **variables: str) -> SimulatorProcess:
    return SimulatorProcess(*flags, API_BASE_URL=api.url, **variables)


def test_the_help_has_every_setting() -> None:
    """`--help` has each flag with its variable and default, and examples that can be run."""
    ended = command("--help", COLUMNS="200")

    assert (ended.returncode, ended.stderr) == (0, "")
    for setting in SETTINGS.values():
        assert setting["flag"] in ended.stdout
        assert f"[{setting['variable']}, default {setting['default']}]" in ended.stdout
    examples = re.findall(r"^  python main\.py(.*?)(?:  .*)?$", ended.stdout, re.MULTILINE)
    assert len(examples) == 3
    for flags in examples:
        read_settings({}, flags.split())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--ages", "x"], "--ages must be population, uniform or campus, not 'x'"),
        (["--speed", "9"], "--speed cannot be used; --help shows what can be set"),
        (["--coun", "9"], "--coun cannot be used; --help shows what can be set"),
        (["9"], "A value without a flag cannot be used; --help shows what can be set"),
        (["--count"], "argument --count: expected one argument; --help shows what can be set"),
        (["--fail-p96", "9"], "--fail-p96 cannot be used; --help shows what can be set"),
        (["--output", "xml"], "--output must be text, json or quiet, not 'xml'"),
        (
            ["--arrivals", "poisson"],
            "SIMULATION_ARRIVALS (--arrivals) can be poisson only with a rate",
        ),
        (
            ["--locale", "el_CY"],
            "SIMULATION_LOCALE (--locale): Faker has no names for el_CY; it has some for el_GR",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_cannot_be_used(flags: list[str], sentence: str) -> None:
    """One sentence that names the flag, and exit code 2."""
    ended = command(*flags)

    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", sentence + "\n")


async def test_a_bulk_says_how_it_went() -> None:
    """Three lines of summary after the first one, exit code 0, and all users are stored. A quiet
    run has only the summary.
    """
    async with (
        FakeApi(batches=True) as api,
        simulator(api, "--count", "2500", "--batch-size", "500") as process,
    ):
        assert await process.end() == 0

        first, rate, responses, _ = process.said
        assert first == f"Simulator: 2,500 users, 8 requests at once, to {api.url}"
        number = r"\d[\d,]*(\.\d+)?"
        names = ["mean", "min", "p50", "p90", "p95", "p99", "max"]
        latency = ", ".join(f"{name} {number}" for name in names)
        assert re.fullmatch(rf"{number} users a second; latency in ms: {latency}", rate)
        sent = sum(len(request.body) for request in api.seen("batch"))
        volume = re.fullmatch(
            r"Responses: 7 with 200; ([\d,]+) bytes sent, [\d,]+ received", responses
        )
        assert volume
        assert sent < int(volume[1].replace(",", "")) < sent + 7 * 300
        assert process.accounts() == ([2500, 2500, 0, 0, 0], None)
        assert (len(api.users), process.complaints) == (2500, "")
        async with simulator(api, "--count", "3", SIMULATION_OUTPUT="quiet") as quiet:
            await quiet.end()
        assert len(quiet.said) == 3


def course(api: FakeApi) -> None:
    """Make the API the first one of the course: 200 to everything, the error inside."""

    async def handler(_: FakeApi, request: Request, writer: asyncio.StreamWriter) -> None:
        status = 200
        body: object = {"message": "User created successfully"}
        if request.kind == "batch":
            status, body = 405, {"detail": "Method Not Allowed"}
        elif request.kind == "create":
            if fake_api.store(api, request):
                body = {"error": "User already exists"}
        elif request.kind == "read":
            user_id = int(request.path.rpartition("/")[2])
            user = api.users.get(user_id)
            body = [user["name"], user["age"]] if user else {"error": "User not found"}
        await fake_api.send(writer, status, body)

    api.choose_handler = lambda request: None if request.kind == "health" else handler


@pytest.mark.parametrize("flags", [["--rate", "200"], []], ids=["at a rate", "in bulk"])
async def test_the_first_api_of_the_course(flags: list[str]) -> None:
    """An API with only the first endpoints, which responds with 200 to creates and to duplicates,
    gets all users; a second run with the same seed finds them there.
    """
    async with FakeApi() as api:
        course(api)
        for numbers in ([60, 60, 0, 0, 0], [60, 0, 60, 0, 0]):
            async with simulator(api, "--count", "60", "--seed", "7", *flags) as process:
                assert await process.end() == 0
                assert process.accounts() == (numbers, None)
        assert len(api.users) == 60


@pytest.mark.parametrize("flags", [["--rate", "500"], []], ids=["at a rate", "in bulk"])
async def test_a_dry_run_sends_no_request(flags: list[str]) -> None:
    """Users are printed in the order they would be sent; even `/health` is not requested, so there
    is neither a rate nor a latency. Another run with the seed sends them.
    """
    async with FakeApi() as api:
        seeded = ["--count", "20", "--seed", "7", *flags]
        async with simulator(api, "--dry-run", *seeded) as process:
            assert await process.end() == 0
        said = process.said
        assert said[0].endswith(" (a dry run: nothing is sent)")
        assert said[-1].endswith(
            ": 0 attempted = 0 created + 0 already there + 0 rejected + 0 given up"
        )
        assert (api.requests, len(api.peers), len(said)) == ([], 0, 22)

        async with simulator(api, *seeded) as process:
            await process.end()
        assert said[1:-1] == [
            f"not sent       user {user_id}  {user['name']}, {user['age']}"
            for user_id, user in sorted(api.users.items())
        ]


@pytest.mark.parametrize(("fail_over", "code"), [("9%", 3), ("10%", 0), ("100%", 0)])
async def test_more_failures_than_allowed_set_the_exit_code(fail_over: str, code: int) -> None:
    """When one user of ten is rejected, 9 % is too little to allow; then a line says so."""
    async with FakeApi() as api:
        api.next_handlers["create"].append(respond(422, {"detail": "No"}))
        flags = ["--count", "10", "--rate", "200", "--fail-over", fail_over]
        async with simulator(api, *flags) as process:
            assert await process.end() == code
            said = "10 % of the users were not stored, more than 9 %"
            assert (said in process.said) == (code == 3)
            assert "The API rejected a user with 422: once" in process.said


@pytest.mark.parametrize(("fail_p95", "code"), [("40ms", 3), ("1h", 0), ("none", 0)])
async def test_a_latency_above_its_limit_sets_the_exit_code(fail_p95: str, code: int) -> None:
    """If the 95th percentile of the latency is longer than allowed, a sentence says so."""
    async with FakeApi(delay_seconds=0.05) as api:
        flags = ["--count", "10", "--rate", "200", "--fail-p95", fail_p95]
        async with simulator(api, *flags) as process:
            assert await process.end() == code
        told = r"The 95th percentile of the latency is [\d.]+ ms, more than 40 ms"
        assert any(re.fullmatch(told, line) for line in process.said) == (code == 3)
        assert process.accounts()[0] == [10, 10, 0, 0, 0]


async def test_a_duration_ends_a_run() -> None:
    """Half a second at a hundred a second are fifty users at most; all that are sent are created.
    In bulk too, no user is sent after the time is over.
    """
    async with FakeApi(delay_seconds=0.05) as api:
        async with simulator(api, "--rate", "100", "--duration", "500ms") as process:
            assert await process.end() == 0
        assert process.said[-1].startswith("Done after ")
        attempted, *outcomes = process.accounts()[0]
        assert outcomes == [attempted, 0, 0, 0]
        assert 0 < attempted <= 50
        in_bulk = ["--interval", "none", "--duration", "0.5", "--concurrency", "2"]
        async with simulator(api, *in_bulk) as process:
            assert await process.end() == 0
        assert process.said[0].startswith("Simulator: users for 0.5 s, 2 requests at once, to ")
        attempted, *outcomes = process.accounts()[0]
        assert outcomes == [attempted, 0, 0, 0]
        assert 2 <= attempted <= 2 * 11


async def test_another_api_ends_the_run() -> None:
    """An API that responds to a create with something else than a user is told about in the
    summary, and does not get users for ever: exit code 3.
    """
    async with FakeApi() as api:
        api.choose_handler = lambda request: (
            respond(201, b"hello") if request.kind == "create" else None
        )
        async with simulator(api, "--interval", "0.01") as process:
            assert await process.end() == 3
        sentence = "The API responded that a user was created, but does not show its user: 5 times"
        assert process.said[-3:-1] == [sentence, "No user was stored"]
        assert process.accounts()[0] == [3, 0, 0, 0, 3]
        assert len(api.seen("create")) == 3


async def test_json_is_an_object_a_line() -> None:
    """Every line on stdout is an object with its time and kind; the last one is the summary."""
    async with FakeApi() as api:
        handlers: list[Handler] = [respond(503, {}), respond(422, {"detail": "No"})]
        api.next_handlers["create"].extend(handlers)
        flags = ["--count", "5", "--interval", "0.01", "--output", "json"]
        ended = await asyncio.to_thread(command, *flags, API_BASE_URL=api.url)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        users = [line for line in lines if line["event"] == "user"]
        summary = lines[-1]

        assert (ended.returncode, ended.stderr) == (0, "")
        assert {line["event"] for line in lines} == {"note", "user", "summary"}
        outcomes = [line["outcome"] for line in users]
        assert outcomes == ["rejected"] + ["created"] * 4
        assert {line["user_id"] for line in users[1:]} == set(api.users)
        assert (summary["attempted"], summary["created"], summary["rejected"]) == (5, 4, 1)
        assert summary["errors"] == {"responded with 503": 1, "rejected a user with 422": 1}
        assert summary["statuses"] == {"200": 1, "201": 4, "404": 1, "422": 1, "503": 1}
        latencies = summary["latency_milliseconds"]
        rising = [latencies[name] for name in ("min", "p50", "p90", "p95", "p99", "max")]
        assert rising == sorted(rising)
        assert rising[0] <= latencies["mean"] <= rising[-1]
        assert min(summary["sent_bytes"], summary["received_bytes"]) > 7 * 60


async def test_the_token_is_sent_and_never_printed() -> None:
    """With API_TOKEN every request has it. If the API rejects it, so are the users; if the API
    repeats it in its response, it is still not printed.
    """
    secret = "s3cret-t0ken"  # noqa: S105 (not a real one)
    wrong_token = respond(401, {"detail": f"{secret} is not the token"})
    async with FakeApi() as api:
        api.next_handlers["create"].append(wrong_token)
        flags = ["--count", "3", "--interval", "0.01"]
        async with simulator(api, *flags, API_TOKEN=secret) as process:
            assert await process.end() == 0

            line = process.said[1]
            assert line.startswith("rejected ")
            assert line.endswith("*** is not the token (check API_TOKEN)")
            assert secret not in "".join(process.said) + process.complaints
            assert process.accounts()[0] == [3, 2, 0, 1, 0]
        headers = [request.headers.get("authorization", "") for request in api.requests]
        assert all(header.endswith(secret) for header in headers)


async def test_a_bulk_that_is_stopped_names_its_unfinished_users() -> None:
    """A signal in the middle of a bulk: users in unfinished batches are given up, as ranges."""
    async with FakeApi(batches=True) as api:
        api.next_handlers["batch"].extend([fake_api.contract] + [fake_api.hang] * 2)
        flags = ["--count", "9000", "--concurrency", "2", "--batch-size", "100"]
        async with simulator(api, *flags) as process:
            await until(lambda: len(api.seen("batch")) == 3)
            await process.stop()

            numbers, unknown = process.accounts()
            assert numbers == [201, 1, 0, 0, 200]
            first = min(api.users) + 1
            assert unknown == f"{first}-{first + 199}"


async def test_users_rejected_in_bulk_do_not_flood_the_output() -> None:
    """In bulk the first ten rejected users have a line each; the others are counted. A run without
    a stored user has failed.
    """
    async with FakeApi(batches=True) as api:
        api.choose_handler = lambda request: (
            None if request.kind == "health" else respond(401, {"detail": "No"})
        )
        async with simulator(api, "--count", "3000") as process:
            assert await process.end() == 3

            assert "The API rejected a user with 401: 3,000 times" in process.said
            assert "No user was stored" in process.said
            lines = [line for line in process.said if line.startswith("rejected")]
            assert len(lines) == 10
            assert process.accounts()[0] == [3000, 0, 0, 3000, 0]
