"""What can be set, and what a mistake gets."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from settings import SettingsError, read_settings

# fmt: off
BAD_ADDRESSES = [
    "", " ", "localhost:8000", "//localhost:8000", "/users/", "ftp://localhost", "http://",
    "http:///users/", "http://:8000", "http://localhost:0", "http://localhost:65536",
    "http://localhost:eight", "http://localhost:8000?debug=1", "http://localhost:8000/#users",
    "http://local host", "http://localhost\n", "http://a..b", "http://" + "a" * 64, "http://[::1",
    "http://[:::]:8000", "http://[127.0.0.1]", "http://999.1.1.1", "http://127.1", "http://8000",
    "http://grüße.example", "http://localhost:٣", "http://me:secret@localhost", "secret@",
    "ftp://me:secret@[::1",
]
# fmt: on
BAD_INTERVALS = ["abc", "-1", "nan", "inf", "-inf", "0", "", " ", "1e30", "0.0009", "86400.1", "5s"]
BAD_DURATIONS = [
    "",
    "0",
    "0s",
    "-1s",
    "60 s",
    "1d",
    "1m30s",
    "60S",
    "s",
    "ms",
    "1mm",
    "1e9h",
    "inf",
]
BAD_DURATIONS += ["nan", "1.s2", "6٥s", "1_0s", "0x5", "1e", "721h", "60ss", "1hms", "+1s", "1,5s"]
BAD_INTERVALS += ["1_0", "٥", "1e", ".", "+5", "0x5", "None"]


@pytest.mark.parametrize(
    ("value", "base_url"),
    [
        ("http://localhost:8000/", "http://localhost:8000"),
        ("https://users.example.org", "https://users.example.org"),
        ("HTTP://user_api", "HTTP://user_api"),
        ("http://127.0.0.1:65535", "http://127.0.0.1:65535"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://gateway/lab/api/", "http://gateway/lab/api"),
    ],
)
def test_base_url_is_an_absolute_address(value: str, base_url: str) -> None:
    """http or https, a host, perhaps a port and a path; a slash at the end does no harm."""
    assert read_settings({"API_BASE_URL": value}).api_base_url == base_url


def test_a_flag_comes_before_a_variable_and_that_before_the_default() -> None:
    """Every setting can be given either way, and the flag is the stronger. With nothing set, a user
    is sent to localhost:8000 every five seconds.
    """
    settings = read_settings({})
    assert (settings.api_base_url, settings.period_seconds) == ("http://localhost:8000", 5)

    variables = {"SIMULATION_COUNT": "5", "SIMULATION_SEED": "1"}
    settings = read_settings(variables, ["--seed", "2"])

    assert (settings.count, settings.seed, settings.locale) == (5, 2, "en_US")


@pytest.mark.parametrize(
    ("variables", "flags", "pace"),
    [
        ({}, [], (5.0, None)),
        ({"SIMULATION_INTERVAL": "2"}, [], (2.0, None)),
        ({"SIMULATION_RATE": "20"}, [], (None, 20.0)),
        ({"SIMULATION_INTERVAL": "2"}, ["--rate", "20"], (None, 20.0)),
        ({"SIMULATION_RATE": "20"}, ["--interval", "2"], (2.0, None)),
        ({"SIMULATION_RATE": "20"}, ["--rate", "none"], (5.0, None)),
        ({}, ["--count", "9"], (None, None)),
        ({"SIMULATION_COUNT": "9", "SIMULATION_INTERVAL": "2"}, [], (2.0, None)),
        ({"SIMULATION_COUNT": "9", "SIMULATION_RATE": "none"}, [], (None, None)),
        ({"SIMULATION_COUNT": "endless"}, [], (5.0, None)),
        ({}, ["--count", "9", "--rate", "20"], (None, 20.0)),
        ({"SIMULATION_INTERVAL": "5"}, ["--count", "9", "--interval", "none"], (None, None)),
        ({}, ["--duration", "1m"], (5.0, None)),
        ({}, ["--duration", "1m", "--rate", "20"], (None, 20.0)),
        ({}, ["--duration", "1m", "--interval", "none"], (None, None)),
        ({"SIMULATION_INTERVAL": "none"}, ["--count", "9"], (None, None)),
        ({"SIMULATION_INTERVAL": "none", "SIMULATION_RATE": "20"}, [], (None, 20.0)),
        ({"SIMULATION_RATE": "20"}, ["--interval", "none"], (None, 20.0)),
    ],
    ids=lambda value: str(value),
)
def test_one_thing_sets_the_pace(
    variables: dict[str, str], flags: list[str], pace: tuple[float | None, float | None]
) -> None:
    """An interval, a rate, or neither: then a count goes in bulk. A flag beats the other's
    variable; both given in the same way are a mistake.
    """
    settings = read_settings(variables, flags)

    assert (settings.interval_seconds, settings.rate_per_second) == pace
    most_at_once = 1 if settings.interval_seconds else 200 if settings.rate_per_second else 8
    assert settings.concurrency == most_at_once
    flags = [*flags, "--concurrency", "64"]
    settings = read_settings(variables, flags)
    assert settings.concurrency == (1 if settings.interval_seconds else 64)


@pytest.mark.parametrize(
    ("variables", "flags", "sentence"),
    [
        ({"SIMULATION_INTERVAL": "1", "SIMULATION_RATE": "1"}, [], "both set the pace"),
        ({}, ["--interval", "1", "--rate", "1"], "both set the pace"),
        ({"SIMULATION_INTERVAL": "none"}, [], "can be none only with a rate, a count or a dur"),
        ({}, ["--interval", "none", "--rate", "none"], "can be none only with a rate, a count"),
    ],
    ids=str,
)
def test_two_paces_or_none_are_a_mistake(
    variables: dict[str, str], flags: list[str], sentence: str
) -> None:
    """Interval and rate given in the same way contradict each other; without both, how many?"""
    with pytest.raises(SettingsError, match=rf"SIMULATION_INTERVAL \(--interval\) .*{sentence}"):
        read_settings(variables, flags)


@pytest.mark.parametrize(
    "flags", [["--api-token", "topsecret"], ["--api-token=topsecret"], ["-ptopsecret"]], ids=str
)
def test_what_is_given_with_an_unknown_flag_is_not_repeated(flags: list[str]) -> None:
    """The value may be a secret and is not printed; one line names the flag."""
    with pytest.raises(SettingsError) as caught:
        read_settings({}, [*flags, "two\nlines"])
    flag = flags[0][:2] if flags[0].startswith("-p") else "--api-token"
    assert str(caught.value) == f"{flag} cannot be used; --help shows what can be set"


@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        ("API_BASE_URL", ["http://[::1]"], BAD_ADDRESSES),
        ("SIMULATION_INTERVAL", ["0.001", "86400", "0.5", "1e-2"], BAD_INTERVALS),
        ("SIMULATION_RATE", ["0.001", "10000", "none"], ["0", "10001", "nan", "", "20/s"]),
        ("SIMULATION_COUNT", ["1", "1000000000", "endless"], ["0", "-1", "1e6", "1_000", ""]),
        ("SIMULATION_SEED", ["0", str(2**63 - 1), "random"], [str(2**63), "-1", "x", ""]),
        ("SIMULATION_LOCALE", ["de_DE", "en-us", "german"], ["", "../en_US", "dé", "e", "e" * 21]),
        ("SIMULATION_DURATION", ["0.001", "1ms", "60s", "720h", "endless"], BAD_DURATIONS),
        ("SIMULATION_FAIL_P95", ["1ms", "200ms", "24h", "0.2", "none"], BAD_DURATIONS),
        ("SIMULATION_ARRIVALS", ["constant"], ["", "Poisson", "random", "uniform"]),
        ("SIMULATION_AGES", ["population", "uniform", "campus"], ["", "Campus", "young"]),
        ("SIMULATION_CONCURRENCY", ["1", "256", "auto"], ["0", "257", "many", ""]),
        ("SIMULATION_BATCH_SIZE", ["1", "10000"], ["0", "10001", ""]),
        ("SIMULATION_DRY_RUN", ["yes", "no"], ["true", "1", ""]),
        ("SIMULATION_OUTPUT", ["text", "json", "quiet"], ["xml", ""]),
        ("SIMULATION_FAIL_OVER", ["0%", "0.5%", "100%"], ["1", "101%", "-1%", "%", "100.1%", ""]),
        ("API_TOKEN", ["longenough", "!" * 200], ["", "short", "with white space", "ä" * 9]),
    ],
)
def test_the_bounds_of_each_variable(variable: str, good: list[str], bad: list[str]) -> None:
    """At its bounds a value is accepted; beyond them the error names the variable."""
    for value in good:
        read_settings({variable: value})
    for value in bad:
        with pytest.raises(SettingsError) as caught:
            read_settings({variable: value})
        assert str(caught.value).startswith(f"{variable} must be ")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
        assert variable != "API_TOKEN" or not value or value not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_time_is_what_was_written_or_a_mistake() -> None:
    """Any number with one unit, or none for seconds, is that time; any other text is a mistake with
    one sentence that names the flag.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    mistakes = []
    for _ in range(500):
        unit, size = dice.choice([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)])
        number = dice.choice([dice.randint(1, 700), round(dice.uniform(1, 700), 3)])
        settings = read_settings({}, ["--rate", "1", f"--duration={number}{unit}"])
        assert settings.duration_seconds == pytest.approx(number * size)
        text = "".join(dice.choices("0159.eE+-msh d\n٣", k=dice.randint(0, 6)))
        try:
            seconds = read_settings({}, ["--fail-p95", "1s", f"--duration={text}"]).duration_seconds
            assert re.fullmatch(r"[0-9.]+([eE][+-]?[0-9]+)?(ms|s|m|h)?", text)
            assert seconds
            assert 0.001 <= seconds <= 30 * 86_400
        except SettingsError as error:
            mistakes.append(str(error))
    sentence = (
        r"--duration must be a time such as 60s, 2m or 1h, from 0\.001 to 2592000 seconds, .*"
    )
    assert len(mistakes) > 100
    for told in mistakes:
        assert told.isprintable()
        assert re.fullmatch(sentence, told)


def test_arrivals_are_random_only_at_a_rate() -> None:
    """At an interval and in bulk there are no arrivals to spread: that is a mistake."""
    flags = ["--arrivals", "poisson"]
    assert read_settings({}, [*flags, "--rate", "5"]).arrivals == "poisson"
    for others in ([], ["--count", "5"], ["--interval", "2"]):
        with pytest.raises(
            SettingsError, match=r"ARRIVALS \(--arrivals\) can be poisson only with"
        ):
            read_settings({}, [*flags, *others])


@pytest.mark.parametrize("flags", [["--interval", "x"], ["--help"]], ids=str)
def test_the_start_is_read_before_libraries(flags: list[str], tmp_path: Path) -> None:
    """A mistake is one line on stderr and exit code 2, before the slow libraries are loaded."""
    for library in ("httptools", "faker"):
        (tmp_path / f"{library}.py").write_text("raise SystemExit('loaded too early')")
    ended = subprocess.run(
        [sys.executable, "main.py", *flags],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr.count("\n")) == (0, 0) if "--help" in flags else (2, 1)
    assert "too early" not in ended.stdout + ended.stderr


def test_a_token_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """A file's only line is the token; it is shown nowhere. Both at once are a mistake, but an
    empty variable is no second token.
    """
    path = tmp_path / "token"
    path.write_text("correct-horse\n")
    both = {"API_TOKEN": "correct-horse", "API_TOKEN_FILE": str(path)}
    for environ in ({"API_TOKEN": "correct-horse"}, {**both, "API_TOKEN": ""}):
        settings = read_settings(environ)

        assert settings.api_token == "correct-horse"  # noqa: S105 - made up
        assert "horse" not in repr(settings)
    with pytest.raises(SettingsError, match="API_TOKEN and API_TOKEN_FILE both set the token"):
        read_settings(both)


@pytest.mark.parametrize("content", [None, "", "two\nlines", "hunter2"])
def test_a_file_without_a_token(tmp_path: Path, content: str | None) -> None:
    """The sentence names the variable, and repeats neither the file's name nor what is in it."""
    path = tmp_path / "hunter"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_TOKEN_FILE": str(path)})
    must = "API_TOKEN_FILE must name a readable file with one line: 8 to 200 printable ASCII"
    assert str(caught.value) == f"{must} characters without white space"


def test_a_share_is_exactly_what_was_written() -> None:
    """Seven of a thousand are not more than 0.7 %: no rounding decides the exit code."""
    for tenths in range(1_001):
        percentage = f"{tenths // 10}.{tenths % 10}%"
        assert read_settings({"SIMULATION_FAIL_OVER": percentage}).fail_over == tenths / 1_000


def test_a_dry_run_that_a_variable_asks_for_can_be_taken_back() -> None:
    """The flag alone means yes; with a word it is what the word says, whatever is set."""
    environ = {"SIMULATION_DRY_RUN": "yes"}
    assert not read_settings(environ, ["--dry-run", "no"]).dry_run
    assert not read_settings(environ, ["--dry-run=no"]).dry_run
    assert read_settings({}, ["--dry-run", "--count", "5"]).dry_run
