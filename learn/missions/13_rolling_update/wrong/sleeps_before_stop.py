"""Waits for /ready, but sleeps before it stops the old replica. One request takes longer.

Seen: requests that lost their replica before they had a response: 1
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


def is_ready(replica):
    """Return whether a replica can work."""
    try:
        with urlopen(replica["url"] + "/ready", timeout=2):
            return True
    except OSError:  # it does not listen yet, or responds with 503
        return False


for old in control("GET", "/replicas"):
    new = control("POST", "/start?version=2")
    while not is_ready(new):
        time.sleep(0.05)
    control("POST", f"/add?id={new['id']}")
    control("POST", f"/remove?id={old['id']}")
    time.sleep(1.5)
    control("POST", f"/stop?id={old['id']}")
    print(f"replica {old['id']} is replaced by {new['id']}")
