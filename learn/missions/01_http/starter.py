"""Six calls to the User API. Its address and two ids are in environment variables.

You can try such calls with curl: start `python3 lab.py up` in another terminal; see README.md.
"""

import os
from urllib.request import Request, urlopen

API_URL = os.environ["API_URL"]  # such as http://127.0.0.1:8000
FREE_ID = os.environ["FREE_ID"]
TAKEN_ID = os.environ["TAKEN_ID"]


def call(method, path):
    """Send one request, and print its status."""
    response = urlopen(Request(API_URL + path, method=method))
    print(method, path, response.status)


call("POST", f"/users/?user_id={FREE_ID}&name=Ada&age=36")
call("GET", f"/users/{FREE_ID}")
call("POST", f"/users/?user_id={TAKEN_ID}&name=Bob&age=41")
# Three more calls belong here.
