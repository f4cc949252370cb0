"""`GET /api/v1/status`: how the mirror is doing."""

import json

from aiohttp import web

from mirror.operations.status import Status


async def answer(status: Status) -> web.Response:
    """The report as JSON."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(headers=headers, body=json.dumps(await status.report()).encode())
