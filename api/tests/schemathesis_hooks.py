"""What Schemathesis, in its own process, needs to know beyond the OpenAPI document."""

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Turn 30.0 into 30: JSON Schema calls both an integer, and the API accepts only the second."""
    if isinstance(body, dict):
        return {key: map_body(_, value) for key, value in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body
