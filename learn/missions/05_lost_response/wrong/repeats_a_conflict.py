"""Chooses the id once, but tries again after a 409, too: HTTPError is an OSError. The id stays
taken, so the loop never ends.

Seen: it does not end: the API responded … times with 409
"""

import os
import random
from urllib.parse import urlencode
from urllib.request import Request, urlopen

API_URL = os.environ["API_URL"]
NAMES = os.environ["NAMES"].split(",")


def create(name):
    """Create one user; try again until it has worked."""
    user_id = random.randrange(10**9)  # chosen once: each retry sends the same request
    query = urlencode({"user_id": user_id, "name": name, "age": 30})
    while True:
        try:
            urlopen(Request(f"{API_URL}/users/?{query}", method="POST"), timeout=2)
            return
        except OSError as error:  # no connection, or no response
            print(f"{name}: {error}, trying again")


for person in NAMES:
    create(person)
