"""`lab.py backup` and `restore`: all users of an API in a file, a JSON object a line."""

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tools.machine import DIRECT, LabError
from tools.processes import say, stop_requested

PAGE_USERS, BUSY_SECONDS, PROGRESS_USERS = 1_000, 60, 50_000


def ask(url: str, path: str, users: dict[int, Any] | None = None) -> tuple[dict[str, Any], bool]:
    """Send a GET or a batch; return the response, and whether a page follows. Raises LabError."""
    body = None if users is None else json.dumps(users).encode()
    headers = {"Content-Type": "application/json"}
    if body and (token := os.environ.get("API_TOKEN")):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url.rstrip("/") + path, body, headers)
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        stop_requested.check(0)
        try:
            with DIRECT.open(request, timeout=60) as response:
                return dict(json.load(response)), "next" in response.headers.get("Link", "")
        except HTTPError as error:
            why = error.read(999).decode(errors="replace")
            if error.code not in (429, 503) or time.monotonic() > give_up_at:
                raise LabError(f"the API responds with {error.code}: {why}", 1) from None
            stop_requested.check(1)
        except (OSError, HTTPException, ValueError, TypeError) as error:
            raise LabError(f"{url} does not respond as our API does: {error}", 1) from None


def backup(file: Path, url: str) -> int:
    """Write all users into a file, which appears when it is complete. Raises LabError."""
    count, after, more = 0, "", True
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as lines:
            while more:
                page, more = ask(url, f"/users/?limit={PAGE_USERS}{after}")
                for key, user in page.items():
                    user = {"user_id": int(key), **user}
                    lines.write(json.dumps(user, ensure_ascii=False) + "\n")
                    after = f"&after={key}"
                count += len(page)
                if count % PROGRESS_USERS == 0:
                    say(f"{count:,} users read")
            lines.flush()
            os.fsync(lines.fileno())
        part.replace(file)
    except (ValueError, TypeError) as error:
        raise LabError(f"{url} does not list users: {error}", 1) from None
    finally:
        part.unlink(missing_ok=True)
    say(f"{count:,} users are in {file}")
    return 0


def batches(file: Path) -> Iterator[tuple[int, dict[int, Any]]]:
    """Yield the number of a line, and the users from there on, by id. Raises LabError."""
    first, users = 1, dict[int, Any]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            stop_requested.check(0)
            try:
                user = json.loads(line.decode())
                types = {key: type(value) for key, value in user.items()}
                whole = types == {"user_id": int, "name": str, "age": int} and line[-1:] == b"\n"
                if not (whole and user["name"].encode()):
                    raise ValueError
            except (ValueError, AttributeError, RecursionError):
                raise LabError(f"line {number} of {file} is not a whole user", 1) from None
            if (user_id := user.pop("user_id")) in users or len(users) == PAGE_USERS:
                yield first, users
                first, users = number, {}
            users[user_id] = user
    yield first, users


def restore(file: Path, url: str) -> int:
    """Create the users of a file; 1 if one conflicts. Raises LabError."""
    counts = [0, 0, 0]
    sum(1 for _ in batches(file))  # read everything before anything is sent
    try:
        for first, users in batches(file):
            line_of = {str(user_id): line for line, user_id in enumerate(users, first)}
            try:
                found, _ = ask(url, "/users/batch", users)
                groups = [found["created"], len(found["existing"]), len(found["conflicting"])]
            except (LabError, LookupError, TypeError) as error:
                named = re.search(r'"body", ?"(-?\d+)"', str(error))
                line = line_of.get(named[1] if named else "", f"{first} or a later one")
                raise LabError(f"line {line}: {error}", 1) from None
            counts = [sum(pair) for pair in zip(counts, groups, strict=True)]
            for key in map(str, found["conflicting"]):
                say(f"line {line_of[key]}: the API has another user with the id {key}")
            if sum(counts) % PROGRESS_USERS == 0:
                say(f"{sum(counts):,} users sent")
    finally:
        say("restored: {:,}, already there: {:,}, conflicting: {:,}".format(*counts))
    return int(counts[2] > 0)
