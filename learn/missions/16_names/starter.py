"""Prints the Compose file of the shop. The check starts it, with a free port in PORT."""

COMPOSE = """
services:
  api:
    image: python:3.13-slim
    init: true
    command: [python, -m, http.server, "8000"]  # stands for the API
    ports: ["${PORT}:8000"]
    networks: [inside]

  simulator:
    image: python:3.13-slim
    init: true
    environment:
      API_BASE_URL: http://127.0.0.1:8000
    command:
      - python
      - -uc
      - |
        import os, time, urllib.request
        while True:
            try:
                urllib.request.urlopen(os.environ["API_BASE_URL"], timeout=2)
                print("created")
            except OSError as error:
                print(error)
            time.sleep(0.2)
    networks: [outside]

networks:
  inside: {}
  outside: {}
"""

print(COMPOSE)
