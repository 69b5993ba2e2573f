"""Finds the replica and the share, but not the reason.

Seen: it printed no reason
"""

import json
import os
import re
from urllib.request import urlopen

# The URL of each replica, by name.
REPLICAS = dict(pair.split("=") for pair in os.environ["REPLICAS"].split(","))
LOGS = os.environ["LOGS"]  # a folder with the log of each replica, such as elm.log; JSON lines
REQUEST_ID = os.environ["REQUEST_ID"]  # of a request that has failed

READS = re.compile(
    r'api_requests_total\{method="GET",route="/users/\{user_id\}",status="(\d+)"\} (\d+)'
)


def reads(url):
    """Return how many reads a replica has done, by status."""
    with urlopen(f"{url}/metrics", timeout=5) as response:
        rows = READS.findall(response.read().decode())
    return {int(status): int(number) for status, number in rows}


def failed(numbers):
    """Return how many of these reads the server could not do. A 404 is the client's mistake."""
    return sum(number for status, number in numbers.items() if status >= 500)


def reason(name):
    """Return why the request failed in a replica."""
    with open(f"{LOGS}/{name}.log", encoding="utf-8") as log:
        for line in log:
            if REQUEST_ID in line and "exception" in line:
                return json.loads(line)["exception"].splitlines()[-1]
    return "unknown"


numbers = {name: reads(url) for name, url in REPLICAS.items()}
sick = max(numbers, key=lambda name: failed(numbers[name]))
percent = 100 * failed(numbers[sick]) / sum(numbers[sick].values())
print(sick, round(percent))
