"""`GET /v2/` (OCI distribution-spec, end-1).

Never a redirect and never a challenge: dockerd answers a mirror's challenge with the user's Docker Hub password.
"""

from aiohttp import web

from mirror.server.call import Call


def answer(call: Call) -> web.Response:
    """200 and an empty object: this is a registry, come in."""
    headers = call.headers()
    headers["Content-Type"] = "application/json"
    return web.Response(body=b"{}", headers=headers)
