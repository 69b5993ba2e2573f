"""Locust's fast user, sending users without a pause."""

import itertools

from locust import FastHttpUser, task

numbers = itertools.count()


class Sender(FastHttpUser):
    """Posts one user after another."""

    @task
    def create(self) -> None:
        """Post the next user."""
        path = f"/users/?user_id={next(numbers)}&name=Alice+Johnson&age=30"
        self.client.post(path, name="create")
