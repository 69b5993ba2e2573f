"""Has a timeout, but does not try again. So the page has holes.

Seen: users without an age in the output: …
"""

import json
import os
from urllib.request import urlopen

API_URL = os.environ["API_URL"]
USER_IDS = os.environ["USER_IDS"].split(",")


def age_of(user_id):
    """Ask the API for the age of a user; again if it does not respond in time."""
    while True:
        try:
            with urlopen(f"{API_URL}/users/{user_id}", timeout=0.5) as response:
                return json.load(response)["age"]
        except OSError as error:  # TimeoutError is an OSError
            return f"unknown: {error}"


for user_id in USER_IDS:
    print(user_id, age_of(user_id))
