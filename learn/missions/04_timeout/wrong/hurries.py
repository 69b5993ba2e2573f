"""Has a timeout of 0.1 milliseconds. So calls end that would have got a response, and the API
works for nobody.

Seen: it sent … requests
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
            with urlopen(f"{API_URL}/users/{user_id}", timeout=0.0001) as response:
                return json.load(response)["age"]
        except OSError as error:  # TimeoutError is an OSError
            print(f"user {user_id}: {error}, trying again", file=sys.stderr)


for user_id in USER_IDS:
    print(user_id, age_of(user_id))
