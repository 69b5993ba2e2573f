"""The simplest client: one requests.Session, one request after another. Arguments: URL, count."""

import sys

import requests

address, count = sys.argv[1], int(sys.argv[2])
with requests.Session() as session:
    for user_id in range(count):
        params: dict[str, str | int] = {"user_id": user_id, "name": "Alice Johnson", "age": 30}
        session.post(f"{address}/users/", params=params, timeout=10).raise_for_status()
