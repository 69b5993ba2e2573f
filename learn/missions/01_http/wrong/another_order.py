"""Deletes before it changes. So no user is left whose age could be invalid, and the status is
still 422: the API looks at the values first.

Seen: call 5 of the task was sent, but not in this order
"""

import os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

API_URL = os.environ["API_URL"]  # such as http://127.0.0.1:8000
FREE_ID = os.environ["FREE_ID"]
TAKEN_ID = os.environ["TAKEN_ID"]


def call(method, path):
    """Send one request, and print its status."""
    try:
        response = urlopen(Request(API_URL + path, method=method))
    except HTTPError as error:  # urllib raises a response of 400 or more; it is a response, too
        response = error
    print(method, path, response.status)


call("POST", f"/users/?user_id={FREE_ID}&name=Ada&age=36")
call("GET", f"/users/{FREE_ID}")
call("POST", f"/users/?user_id={TAKEN_ID}&name=Bob&age=41")
call("DELETE", f"/users/{FREE_ID}")
call("PUT", f"/users/{FREE_ID}?name=Ada&age=200")
call("GET", f"/users/{FREE_ID}")
