"""The API's description, as a mirror gives it."""

import json
from typing import Any

from tests.support.mirror import Running


async def api_document(mirror: Running) -> dict[str, Any]:
    """What `/openapi.json` says."""
    reply = await mirror.get("/api/v1/openapi.json")
    assert reply.status == 200
    document = json.loads(reply.body)
    assert isinstance(document, dict)
    return document
