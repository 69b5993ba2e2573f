"""Prints the id and the age of each user in USER_IDS; asks the API at API_URL."""

import json
import os
from urllib.request import urlopen

API_URL = os.environ["API_URL"]
USER_IDS = os.environ["USER_IDS"].split(",")


def age_of(user_id):
    """Ask the API for the age of a user."""
    with urlopen(f"{API_URL}/users/{user_id}") as response:
        return json.load(response)["age"]


for user_id in USER_IDS:
    print(user_id, age_of(user_id))
