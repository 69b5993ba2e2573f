"""API_URL: what is accepted, what is refused, and what is said about it."""

from pathlib import Path

import pytest

from api_client import ApiClient
from settings import Settings, SettingsError, read_settings

NEEDED = (
    "API_URL must be a full address such as http://localhost:8000/users/,"
    " without a user name, password, query or fragment"
)


def test_default_is_the_local_api() -> None:
    """Without the variable, the API of the documented start is asked."""
    assert read_settings({}) == Settings(api_url="http://localhost:8000/users/")


@pytest.mark.parametrize(
    ("api_url", "statistics_url"),
    [
        ("http://localhost:8000/users/", "http://localhost:8000/stats/ages"),
        ("http://api:8000/users", "http://api:8000/stats/ages"),
        ("http://h:1/prefix/users/", "http://h:1/prefix/stats/ages"),
        ("https://example.org/a/b/people/", "https://example.org/a/b/stats/ages"),
        ("http://[::1]:8000/users/", "http://[::1]:8000/stats/ages"),
        ("http://192.0.2.7/users/", "http://192.0.2.7/stats/ages"),
        ("http://user_api.local./users/", "http://user_api.local./stats/ages"),
        ("http://localhost:65535", "http://localhost:65535/stats/ages"),
    ],
)
def test_statistics_are_beside_the_users(api_url: str, statistics_url: str) -> None:
    """A usable address is kept as it is, and the age counts are found under its prefix."""
    settings = read_settings({"API_URL": api_url})
    assert settings.api_url == api_url
    assert ApiClient(settings.api_url).beside("stats/ages") == statistics_url


BAD_HOSTS = (
    *("", ":8000", "localhost:0", "localhost:65536", "localhost:eight", "local host"),
    *("local\thost", "[::1", "[::zz]", "999.1.1.1", "-api"),
)
NO_ADDRESSES = [
    *(
        "",
        " ",
        "nonsense",
        "localhost:8000/users/",
        "//localhost:8000/users/",
        "/users/",
        "http://",
    ),
    *("ftp://localhost/users/", "http://localhost/users/\n", "http://localhost\\users"),
    *(f"http://{host}/users/" for host in BAD_HOSTS),
    "x" * 100_000,
]


@pytest.mark.parametrize("value", NO_ADDRESSES)
def test_what_is_no_address_is_refused(value: str) -> None:
    """A value that is no address is refused with one sentence that names the variable."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_URL": value})
    assert str(caught.value) == NEEDED


@pytest.mark.parametrize("secret", ["admin:hunter2@localhost/", "localhost/?hunter2", "a/#hunter2"])
def test_secrets_are_refused_without_repeating_them(secret: str) -> None:
    """A value that may hold a secret is refused, and its content does not get into a log."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_URL": f"http://{secret}"})
    assert str(caught.value) == NEEDED


@pytest.mark.parametrize("token", ["12345678", "a-token_with.+/=~!", "x" * 200])
def test_a_token_is_kept_and_not_shown(token: str) -> None:
    """A token is what it is, and no description of the settings has it."""
    settings = read_settings({"API_TOKEN": token})
    assert settings.api_token == token
    assert token not in repr(settings)
    assert read_settings({}).api_token is None
    assert read_settings({"API_TOKEN": ""}).api_token is None


@pytest.mark.parametrize(
    "token", ["hunter2", "hunter2 hunter2", "hunter2\n", "hünter2x", "x" * 201]
)
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    """The sentence names the variable and does not repeat what may be a secret."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_TOKEN": token})
    assert str(caught.value).startswith("API_TOKEN must be 8 to 200 printable ASCII characters")
    assert "hunter" not in str(caught.value)


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    """A file's only line is the token; it is shown nowhere."""
    path = tmp_path / "token"
    path.write_text("correct-horse\n")
    settings = read_settings({"API_TOKEN_FILE": str(path)})

    assert settings.api_token == "correct-horse"  # noqa: S105 - made up
    assert "horse" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "API_TOKEN_FILE must name a file with text that can be read"),
        ("", "The line in API_TOKEN_FILE must be 8 to 200 printable"),
        ("two\nlines", "The line in API_TOKEN_FILE must be 8 to 200 printable"),
        ("hunter2", "The line in API_TOKEN_FILE must be 8 to 200 printable ASCII characters"),
    ],
)
def test_a_file_without_a_token(tmp_path: Path, content: str | None, sentence: str) -> None:
    """The sentence names the variable, and repeats neither the file's name nor what is in it."""
    path = tmp_path / "hunter"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_TOKEN_FILE": str(path)})
    assert str(caught.value).startswith(sentence)
    assert "hunter" not in str(caught.value)


def test_a_token_given_twice(tmp_path: Path) -> None:
    """A variable and a file could differ: it would not be clear which one counts."""
    (tmp_path / "token").write_text("correct-horse")
    with pytest.raises(SettingsError, match="API_TOKEN and API_TOKEN_FILE both set the token"):
        read_settings({"API_TOKEN": "correct-horse", "API_TOKEN_FILE": str(tmp_path / "token")})


def test_the_address_of_the_faults() -> None:
    """It is optional, and checked as API_URL is."""
    assert read_settings({"FAULTS_URL": ""}).faults_url is None
    url = "http://localhost:8474/faults"
    assert read_settings({"FAULTS_URL": url}).faults_url == url
    with pytest.raises(SettingsError, match="FAULTS_URL must be a full address"):
        read_settings({"FAULTS_URL": "nonsense"})


def test_the_public_addresses() -> None:
    """They are read as the API reads them: in lower case except the path, without a last slash."""
    value = "https://Lab.Example/, http://hub.example:8080/User/me/proxy/8501/"
    found = ("https://lab.example", "http://hub.example:8080/User/me/proxy/8501")
    assert read_settings({}).public_urls == ()
    assert read_settings({"PUBLIC_URL": value}).public_urls == found


@pytest.mark.parametrize(
    "value", ["", "lab.example", "https://", "https://a@b", "https://a/?b", "*"]
)
def test_what_is_no_public_address(value: str) -> None:
    """The sentence names the variable and has an example."""
    with pytest.raises(SettingsError, match="PUBLIC_URL must be addresses such as https://"):
        read_settings({"PUBLIC_URL": value})
