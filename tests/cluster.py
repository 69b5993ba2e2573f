"""A Citus cluster: a coordinator and two workers, which are PostgreSQL servers of the tests."""

import time

import pytest
from conftest import wait_until
from served import Postgres

from tools.processes import ROOT

NOT_INSTALLED = "Citus is not installed: see tests/citus/README.md"
DISTRIBUTE = ROOT / "tests" / "citus" / "distribute.sql"
WORKERS = 2
# The workers do not obey the settings of a session, so the role has them.
SETTINGS = (
    "ALTER SYSTEM SET shared_preload_libraries = 'citus'",
    "ALTER SYSTEM SET max_prepared_transactions = 200",
    "ALTER SYSTEM SET citus.recover_2pc_interval = '1s'",
    "ALTER ROLE postgres SET lock_timeout = '450ms'",
    "ALTER ROLE postgres SET statement_timeout = '1800ms'",
    "ALTER ROLE postgres SET idle_in_transaction_session_timeout = '60s'",
)


class Citus:
    """Its nodes can be killed and started. The API connects to the coordinator."""

    def __init__(self) -> None:
        self.nodes = [Postgres() for _ in range(1 + WORKERS)]
        self.coordinator, *self.workers = self.nodes
        self.url = self.coordinator.url
        if not self.coordinator.has_extension("citus"):
            self.remove()
            pytest.skip(NOT_INSTALLED)
        for node in self.nodes:
            node.execute(*SETTINGS)
            node.stop()
            node.start()
            node.execute("CREATE EXTENSION citus")
        self.coordinator.execute(
            f"SELECT citus_set_coordinator_host('{self.coordinator.sockets}', 5432)"
        )
        for worker in self.workers:
            self.coordinator.execute(f"SELECT citus_add_node('{worker.sockets}', 5432)")

    def distribute(self) -> None:
        """Distribute the tables that the API has created."""
        self.coordinator.execute(*DISTRIBUTE.read_text(encoding="utf-8").splitlines())

    def wait_until_recovered(self) -> float:
        """Return when no node has an undecided transaction; return the seconds."""
        started = time.monotonic()
        undecided = "SELECT count(*) FROM pg_prepared_xacts"
        wait_until("recovery", lambda: all(n.execute(undecided) == ["0"] for n in self.nodes), 30)
        return time.monotonic() - started

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()
