"""Writes `contract/openapi.json`. `lab.py lock` runs it with the API's Python, in its folder."""

import json
from pathlib import Path

import main
import openapi

contract = json.dumps(openapi.openapi_document(main.app), indent=2, ensure_ascii=False) + "\n"
Path("../contract/openapi.json").write_text(contract, encoding="utf-8", newline="\n")
