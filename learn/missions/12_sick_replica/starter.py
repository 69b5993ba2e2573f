"""Prints which replica is sick, how many percent of its reads fail, and why one request failed."""

import json
import os
from urllib.request import urlopen

# The URL of each replica, by name.
REPLICAS = dict(pair.split("=") for pair in os.environ["REPLICAS"].split(","))
LOGS = os.environ["LOGS"]  # a folder with the log of each replica, such as elm.log; JSON lines
REQUEST_ID = os.environ["REQUEST_ID"]  # of a request that has failed

for name, url in REPLICAS.items():
    with urlopen(f"{url}/health", timeout=5) as response:
        print(name, "is", json.load(response)["status"])
