"""Never tries again. So nobody is stored twice, but a request that did not arrive is lost.

Seen: people who are not stored: …
"""

import os
import random
from urllib.error import HTTPError
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
        except HTTPError as error:
            if error.status == 409:  # an earlier try has stored the user; its response was lost
                return
            raise
        except OSError as error:  # no connection, or no response
            print(f"{name}: {error}")
            return


for person in NAMES:
    create(person)
