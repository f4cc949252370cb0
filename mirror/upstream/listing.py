"""Lists of tags and referrers, page by page (distribution-spec, "Listing Tags", "Listing Referrers").

A page's `next` is what the registry's `Link` said, resolved against the URL that sent it, since registries redirect
and drop the query. It is handed out with what finds a circle: the number of the page and a mark of an earlier
one (Brent's algorithm), so that nothing need be remembered here.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yarl import URL

from mirror.errors import RequestInvalid, UpstreamInvalid
from mirror.oci.names import valid_tag

TAGS_LIMIT = 16 << 20
PAGES_LIMIT = 10_000

# RFC 8288, 3: Link = #link-value; link-value = "<" URI-Reference ">" *( OWS ";" OWS [ link-param ] )
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[A-Za-z0-9*_-]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s;,\"]*))?)*)")
_REL_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next\b)", re.IGNORECASE)
_PAGE = re.compile(r"([0-9]{1,5})\.([0-9a-f]{16})\.(.+)", re.DOTALL)
_LINK_LIMIT = 16384


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page is, how many came before it, and the mark that tells a circle."""

    url: URL
    number: int = 0
    mark: str = "0" * 16

    @classmethod
    def parse(cls, text: str) -> "Page":
        """Read what `str` wrote. Raises `RequestInvalid`."""
        match = _PAGE.fullmatch(text)
        try:
            url = URL(match[3], encoded=True) if match else URL()
        except ValueError:
            url = URL()
        if match is None or not url.host or url.scheme not in ("http", "https"):
            raise RequestInvalid("not a page that this mirror handed out")
        return cls(url, int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number}.{self.mark}.{self.url}"

    def after(self, url: URL) -> "Page | None":
        """The page at `url`, which this one names as the next; None where that closes a circle."""
        own, other = _mark(self.url), _mark(url)
        if other in (own, self.mark) or self.number >= PAGES_LIMIT:
            return None
        power_of_two = self.number & (self.number - 1) == 0
        return Page(url, self.number + 1, own if power_of_two else self.mark)


def next_link(headers: Iterable[str]) -> str | None:
    """The URI reference with `rel="next"` among `Link` headers, as it stands there."""
    for header in headers:
        if len(header) <= _LINK_LIMIT:
            for match in _LINK.finditer(header):
                if _REL_NEXT.search(match[2]):
                    return match[1]
    return None


def parse_tags(raw: bytes, registry: str) -> tuple[str, ...]:
    """The names in a tags list; what is no tag is left out. Raises `UpstreamInvalid`."""
    value = _decode(raw)
    tags = value.get("tags") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not (tags is None or isinstance(tags, list)):
        raise UpstreamInvalid(f"{registry}: its list of tags cannot be read", registry=registry)
    return tuple(tag for tag in tags or () if isinstance(tag, str) and valid_tag(tag))


def parse_index(raw: bytes) -> dict[str, Any] | None:
    """A referrers index with its list of manifests; None for anything else."""
    value = _decode(raw)
    return value if isinstance(value, dict) and isinstance(value.get("manifests"), list) else None


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _mark(url: URL) -> str:
    return hashlib.sha256(str(url).encode("utf-8", "surrogatepass")).hexdigest()[:16]
