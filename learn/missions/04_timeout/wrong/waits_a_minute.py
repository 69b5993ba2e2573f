"""Has a timeout of 60 seconds, as many libraries have. Nobody waits that long for a page.

Seen: a call waited more than … s, and still waited
"""

import json
import os
import sys
from urllib.request import urlopen

API_URL = os.environ["API_URL"]
USER_IDS = os.environ["USER_IDS"].split(",")


def age_of(user_id):
    """Ask the API for the age of a user; again if it does not respond in time."""
    while True:
        try:
            with urlopen(f"{API_URL}/users/{user_id}", timeout=60) as response:
                return json.load(response)["age"]
        except OSError as error:  # TimeoutError is an OSError
            print(f"user {user_id}: {error}, trying again", file=sys.stderr)


for user_id in USER_IDS:
    print(user_id, age_of(user_id))
