"""Sleeps. But one replica needs longer until it is ready, and one request until it is done.

Seen: requests that got 503 from a replica that was not ready
"""

import json
import os
import time
from urllib.request import Request, urlopen

CONTROL_URL = os.environ["CONTROL_URL"]


def control(method, path):
    """Send a command, and return what it returns."""
    with urlopen(Request(CONTROL_URL + path, method=method), timeout=10) as response:
        return json.load(response)


for old in control("GET", "/replicas"):
    new = control("POST", "/start?version=2")
    time.sleep(1.5)
    control("POST", f"/add?id={new['id']}")
    control("POST", f"/remove?id={old['id']}")
    time.sleep(1.5)
    control("POST", f"/stop?id={old['id']}")
    print(f"replica {old['id']} is replaced by {new['id']}")
