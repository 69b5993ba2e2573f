"""Replaces the replicas of the cart by new ones; CONTROL_URL starts, adds, removes and stops."""

import json
import os
from urllib.request import Request, urlopen

CONTROL_URL = os.environ["CONTROL_URL"]


def control(method, path):
    """Send a command, and return what it returns."""
    with urlopen(Request(CONTROL_URL + path, method=method), timeout=10) as response:
        return json.load(response)


for old in control("GET", "/replicas"):
    control("POST", f"/stop?id={old['id']}")
    control("POST", f"/remove?id={old['id']}")
    new = control("POST", "/start?version=2")
    control("POST", f"/add?id={new['id']}")
    print(f"replica {old['id']} is replaced by {new['id']}")
