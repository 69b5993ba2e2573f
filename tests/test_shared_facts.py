"""Ports, images, users, memory limits and versions stand in many files: they must be the same."""

from pathlib import Path

import pytest
from facts import change, disagreements

from tools.processes import ROOT


def test_shared_facts_are_the_same_in_every_file() -> None:
    """Ports, images, users, memory limits, addresses and versions are the same everywhere."""
    assert disagreements(ROOT) == {}


INGRESS = "deploy/kubernetes/overlays/production/ingress.yaml"
READINESS = "readinessProbe:\n            httpGet: { path: /_stcore/health, port: http }"
CHANGES = [
    ("docker-compose.yml", "-8000}:8000", "-8000}:8001"),
    ("docker-compose.yml", "API_BASE_URL=http://api:8000", "API_BASE_URL=http://api:8001"),
    ("docker-compose.yml", "-8501}:8501", "-8501}:8502"),
    ("docker-compose.yml", "localhost:8000/health", "localhost:8000/ready"),
    ("api/Dockerfile", "EXPOSE 8000", "EXPOSE 8001"),
    ("api/Dockerfile", '"--port", "8000"', '"--port", "8001"'),
    ("frontend/Dockerfile", "localhost:8501", "localhost:8502"),
    ("frontend/.streamlit/config.toml", "port = 8501", "port = 8502"),
    ("deploy/kubernetes/base/api.yaml", "containerPort: 8000", "containerPort: 8001"),
    ("deploy/kubernetes/base/api.yaml", "port: 8000, targetPort", "port: 80, targetPort"),
    ("deploy/kubernetes/base/simulator.yaml", "http://api:8000", "http://api:8001"),
    ("deploy/kubernetes/base/frontend.yaml", "http://api:8000", "http://api:8001"),
    ("deploy/kubernetes/base/frontend.yaml", "containerPort: 8501", "containerPort: 8502"),
    (
        "deploy/kubernetes/overlays/local/database.yaml",
        "containerPort: 5432",
        "containerPort: 5433",
    ),
    ("deploy/kubernetes/overlays/production/network.yaml", "port: 5432", "port: 5433"),
    ("deploy/kubernetes/base/api.yaml", "path: /ready, port: http", "path: /ready, port: 8001"),
    ("deploy/kubernetes/base/frontend.yaml", READINESS, READINESS.replace("http }", "8502 }")),
    (INGRESS, "name: frontend, port: { name: http }", "name: frontend, port: { number: 80 }"),
    (INGRESS, "name: api, port: { name: http }", "name: api, port: { number: 80 }"),
    ("deploy/edge/haproxy.cfg", " api:8000", " api:8001"),
    ("deploy/edge/haproxy.cfg", " frontend:8501", " frontend:8502"),
    ("deploy/edge/haproxy.cfg", "bind :8000", "bind :8001"),
    ("deploy/edge/haproxy.cfg", "bind :8080", "bind :8081"),
    (
        "deploy/docker-compose.prod.yml",
        "API_BASE_URL=http://edge:8000",
        "API_BASE_URL=http://edge:8001",
    ),
    ("deploy/docker-compose.prod.yml", "API_URL=http://edge:8000", "API_URL=http://edge:8001"),
    ("deploy/docker-compose.prod.yml", "main:app --host", "main:app --workers 2 --host"),
    ("deploy/observability/prometheus-compose.yml", "port: 8000", "port: 8001"),
    ("deploy/docker-compose.prod.yml", "localhost:8501", "localhost:8502"),
    ("deploy/docker-compose.prod.yml", "8080}:8080", "8080}:8081"),
    ("deploy/docker-compose.prod.yml", "@postgres/", "@postgres:5433/"),
    ("deploy/observability/prometheus.yml", '["localhost:8000"]', '["localhost:8001"]'),
    ("deploy/observability/prometheus-kubernetes.yml", "port: 8000", "port: 8001"),
    ("data_ingestion_simulator/settings.py", "http://localhost:8000", "http://localhost:80"),
    ("frontend/settings.py", "http://localhost:8000", "http://localhost:80"),
    ("docs/architecture.md", "simulator -->|8000|", "simulator -->|8001|"),
    ("docker-compose.yml", "mem_limit: 768m", "mem_limit: 769m"),
    ("docker-compose.yml", "image: user-api", "image: users-api"),
    ("frontend/Dockerfile", "USER 10001", "USER 10002"),
    ("api/main.py", 'VERSION = "', 'VERSION = "1'),
    ("deploy/postgres.env", "lab:lab@", "lab:lob@"),
]


@pytest.mark.parametrize(("file", "was", "becomes"), CHANGES)
def test_a_change_in_one_place_is_found(checkout: Path, file: str, was: str, becomes: str) -> None:
    """A port, name, size or version that is changed in one file only is found."""
    change(checkout, file, was, becomes)

    assert disagreements(checkout)
