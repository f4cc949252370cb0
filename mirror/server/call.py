"""One request, as the handlers see it."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from aiohttp import web
from multidict import CIMultiDict

from mirror.cache.rights import Principal
from mirror.oci.names import Repository


@dataclass(slots=True)
class Call:
    """Who asks, from where, and how he named the registry. `client` is an address, for limits and log lines."""

    request: web.BaseRequest
    principal: Principal
    client: str
    host: str
    ns: bool  # whether the registry was said by `?ns=`

    @property
    def head(self) -> bool:
        return self.request.method == "HEAD"

    def headers(self, repository: Repository | None = None) -> CIMultiDict[str]:
        """The headers that every answer of the registry carries."""
        return registry_headers(repository if self.ns else None)

    def beside(self, part: str, other: str) -> str:
        """The path of this request, in the words of the client, with `other` from the last `part` on: a `Location`."""
        path = unquote(self.request.raw_path.partition("?")[0])
        location = path[: path.rindex(part)] + other
        said = parse_qs(self.request.raw_path.partition("?")[2]).get("ns") if self.ns else None
        return f"{location}?ns={quote(said[0], safe=':')}" if said else location

    def matches(self, etag: str) -> bool:
        """Whether the client said that it has this already (RFC 9110, 13.1.2). Never without being asked."""
        header = self.request.headers.get("If-None-Match")
        if header is None:
            return False
        candidates = {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
        return etag in candidates or "*" in candidates


def registry_headers(said: Repository | None) -> CIMultiDict[str]:
    """What every answer of the registry carries. `said`: the repository, where `?ns=` named its registry."""
    headers = CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"})
    if said is not None:
        headers["OCI-Namespace"] = said.registry
    return headers


def warning(text: str) -> str:
    """A `Warning` header (RFC 7234, 5.5): ours, ASCII, at most 200 characters."""
    safe = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
    return f'299 - "{safe[:180]}"'
