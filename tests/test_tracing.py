"""One request, followed from service to service."""

import re
from collections.abc import Callable

from conftest import Terminal, free_port, service_python

TOLD = re.compile(r"created .* ([0-9a-f]{16})$")


def test_a_request_has_one_id_in_both_logs(terminal: Callable[..., Terminal]) -> None:
    """Under the id that the simulator tells of a user, the API's log has the request."""
    port = free_port()
    serve = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port)]
    api = terminal(*serve, folder="api")
    api.wait_for("Uvicorn running")
    simulator = terminal(
        service_python("data_ingestion_simulator"), "main.py", "--count", "5", "--batch-size", "1",
        "--interval", "0.1", folder="data_ingestion_simulator",
        API_BASE_URL=f"http://localhost:{port}",
    )  # fmt: skip
    assert simulator.process.wait(30) == 0
    told = [match[1] for line in simulator.lines if (match := TOLD.search(line))]

    assert len(set(told)) == 5
    for request_id in told:
        api.wait_for(re.compile(rf"POST /users/ 201 .* {request_id}$"), deadline_seconds=5)
