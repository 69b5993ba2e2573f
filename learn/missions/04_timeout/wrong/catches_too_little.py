"""Catches URLError only. A response that does not arrive in time raises TimeoutError.

Seen: it ended with exit code 1
"""

import json
import os
import sys
from urllib.error import URLError
from urllib.request import urlopen

API_URL = os.environ["API_URL"]
USER_IDS = os.environ["USER_IDS"].split(",")


def age_of(user_id):
    """Ask the API for the age of a user; again if it does not respond in time."""
    while True:
        try:
            with urlopen(f"{API_URL}/users/{user_id}", timeout=0.5) as response:
                return json.load(response)["age"]
        except URLError as error:
            print(f"user {user_id}: {error}, trying again", file=sys.stderr)


for user_id in USER_IDS:
    print(user_id, age_of(user_id))
