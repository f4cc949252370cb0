"""Request paths of the registry API, to `Route` and back (distribution-spec, "Endpoints").

Which registry a request means is said in one of these forms (design.md §5):

    /v2/<name>/…?ns=HOST        containerd, BuildKit; a first component of <name> equal to HOST is dropped
    /v2/HOST/<name>/…           podman, and everybody who writes the mirror in front of a name
    /HOST/v2/<name>/…           a mirror configured with a path
    /v2/<name>/…                none is said

Beside it stands what is left of docker's first protocol: its search (`/v1/_ping`, `/v1/search`).

`parse` takes the path as it stood on the request line and decodes it exactly once; `build` is its inverse.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote, unquote, unquote_plus

from mirror.errors import BlobUploadUnknown, ManifestUnknown, NameInvalid, PathUnknown, RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Name, canonical_registry, is_registry, valid_tag

PATH_LIMIT = 2048
"""Characters of a path, encoded: enough for the longest name and digest with every character encoded."""

QUERY_LIMIT = 8192
TEXT_LIMIT = 256
"""Characters of `last` and `artifactType`, decoded: more than any tag, name or media type has."""

_COUNT = re.compile(r"[0-9]{1,18}")
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: is this a registry, and may I come in? (end-1)"""


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    """A manifest by tag or digest (end-3, end-7, end-9)."""

    name: Name
    reference: str | Digest


@dataclass(frozen=True, slots=True)
class BlobRoute:
    """A blob (end-2, end-10)."""

    name: Name
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagsRoute:
    """The tags of a repository (end-8a, end-8b): at most `n` of them, those after `last`."""

    name: Name
    n: int | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class ReferrersRoute:
    """Manifests whose subject is this digest (end-12a, end-12b)."""

    name: Name
    digest: Digest
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class UploadsRoute:
    """Where an upload begins (end-4a, end-4b, end-11)."""

    name: Name


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """An upload that is under way (end-5, end-6, end-13)."""

    name: Name
    id: str


@dataclass(frozen=True, slots=True)
class CatalogRoute:
    """All repositories (distribution's `_catalog`; not of the specification, but `podman search` asks it)."""

    n: int | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class OldPing:
    """`/v1/_ping`: what dockerd asks before it searches (moby `registry/search_endpoint_v1.go`)."""


@dataclass(frozen=True, slots=True)
class SearchRoute:
    """`/v1/search`: repositories by a term, page by page of `n` (moby `registry/search_session.go`)."""

    term: str
    n: int | None = None
    page: int | None = None


Route: TypeAlias = (
    Base
    | ManifestRoute
    | BlobRoute
    | TagsRoute
    | ReferrersRoute
    | UploadsRoute
    | UploadRoute
    | CatalogRoute
    | OldPing
    | SearchRoute
)
NamedRoute: TypeAlias = ManifestRoute | BlobRoute | TagsRoute | ReferrersRoute | UploadsRoute | UploadRoute

_NO_PARAMETERS: dict[str, str] = {}


def parse(path: str, query: str = "") -> Route:
    """Read a raw (percent-encoded) path and a raw query string, without its `?`.

    Pure, and its results are hashable: cache it. Raises `PathUnknown` where this is no route at all, else what
    names the part that is wrong: `NameInvalid`, `DigestInvalid`, `BlobUploadUnknown`, `RequestInvalid` (the
    query), `ManifestUnknown` (a tag that cannot exist: end-3 knows no failure but 404, and the conformance
    suite up to spec 1.1, `setup.go`, asks for `.INVALID_MANIFEST_NAME` to get it).
    """
    path = _decoded(path)
    parameters = _parameters(query) if query else _NO_PARAMETERS
    if path.startswith("/v1/"):
        return _old(path, parameters)
    registry, rest = _split_prefix(path)
    if rest in ("", "_catalog"):
        return CatalogRoute(_count(parameters), _text(parameters, "last")) if rest else Base()
    head, _, last = rest.rpartition("/")
    head, _, kind = head.rpartition("/")
    match kind:
        case "manifests":
            return ManifestRoute(_name(registry, head, parameters), _reference(last))
        case "blobs":
            if last == "uploads":
                return UploadsRoute(_name(registry, head, parameters))
            return BlobRoute(_name(registry, head, parameters), Digest.parse(last))
        case "uploads" if head.endswith("/blobs"):
            name = _name(registry, head[: -len("/blobs")], parameters)
            return UploadRoute(name, _upload_id(last)) if last else UploadsRoute(name)
        case "tags" if last == "list":
            return TagsRoute(_name(registry, head, parameters), _count(parameters), _text(parameters, "last"))
        case "referrers":
            name = _name(registry, head, parameters)
            return ReferrersRoute(name, Digest.parse(last), _text(parameters, "artifactType"))
        case _:
            raise PathUnknown("no such route in the registry API")


def build(route: Route, *, ns: bool = False) -> str:
    """The path and query of a route: `parse` of its two halves gives it back.

    The registry stands in the path (`/v2/HOST/…`), or with `ns` in the query (`/v2/…?ns=HOST`).
    """
    if isinstance(route, Base | CatalogRoute | OldPing | SearchRoute):
        return build_upstream(route)
    name = route.name
    if name.registry is None:
        return _path(name.path, route) + _query(_pairs(route))
    prefixed = f"{quote(name.registry, safe=':')}/{name.path}"
    if not ns:
        return _path(prefixed, route) + _query(_pairs(route))
    # parse drops a first component that equals the registry, so one that belongs to the name is written twice
    path = prefixed if _same_registry(name.path.partition("/")[0], name.registry) else name.path
    return _path(path, route) + _query([*_pairs(route), ("ns", name.registry)])


def build_upstream(route: Route) -> str:
    """The path and query of a route as the registry itself knows it: its own name is not said."""
    match route:
        case Base():
            return "/v2/"
        case CatalogRoute():
            return "/v2/_catalog" + _query(_pairs(route))
        case OldPing():
            return "/v1/_ping"
        case SearchRoute():
            return "/v1/search" + _query(_pairs(route))
        case _:
            return _path(route.name.path, route) + _query(_pairs(route))


# --- reading ----------------------------------------------------------------------------------------------


def _decoded(path: str) -> str:
    if len(path) > PATH_LIMIT:
        raise NameInvalid("the path is too long")
    if "%" in path:
        if "%2f" in path.lower():
            raise NameInvalid("an encoded slash in the path")
        path = unquote(path, "latin-1")  # never fails; what is not ASCII then fits no grammar
    return path


def _split_prefix(path: str) -> tuple[str | None, str]:
    """The registry of `/HOST/v2/…`, if it is that form, and what follows `/v2/`."""
    if path.startswith("/v2/"):
        return None, path[4:]
    if path == "/v2":
        return None, ""
    host, _, rest = path[1:].partition("/")
    if path.startswith("/") and is_registry(host):
        if rest.startswith("v2/"):
            return canonical_registry(host), rest[3:]
        if rest == "v2":
            return canonical_registry(host), ""
    raise PathUnknown("no such route in the registry API")


def _old(path: str, parameters: dict[str, str]) -> OldPing | SearchRoute:
    """What is left of docker's first protocol."""
    match path:
        case "/v1/_ping":
            return OldPing()
        case "/v1/search":
            return SearchRoute(_term(parameters), _count(parameters), _count(parameters, "page"))
        case _:
            raise PathUnknown("no such route: of docker's first protocol there is only the search")


def _name(prefix: str | None, text: str, parameters: dict[str, str]) -> Name:
    registry = prefix
    if "ns" in parameters:
        registry = canonical_registry(parameters["ns"])
        if prefix is not None and prefix != registry:
            raise NameInvalid("the path and ns name two different registries")
    first, _, rest = text.partition("/")
    if registry is None:
        if not is_registry(first):
            return Name(None, text)
        return Name(canonical_registry(first), rest)
    return Name(registry, rest if _same_registry(first, registry) else text)


def _same_registry(component: str, registry: str) -> bool:
    """Whether a component of a name says this (canonical) registry."""
    try:
        return component == registry or canonical_registry(component) == registry
    except NameInvalid:
        return False


def _reference(text: str) -> str | Digest:
    if ":" in text:
        return Digest.parse(text)
    if not valid_tag(text):
        raise ManifestUnknown("no tag can be called so")
    return text


def _upload_id(text: str) -> str:
    if _UPLOAD_ID.fullmatch(text) is None:
        raise BlobUploadUnknown("no such upload")
    return text


def _parameters(query: str) -> dict[str, str]:
    """The query, decoded once. Of a repeated parameter the first counts, as in Go; `ns` may not contradict itself."""
    if len(query) > QUERY_LIMIT or not query.isascii():
        raise RequestInvalid("the query is too long, or not ASCII")
    found: dict[str, str] = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            key, value = unquote_plus(key), unquote_plus(value)
        if found.setdefault(key, value) != value and key == "ns":
            raise RequestInvalid("ns is given twice")  # a proxy in front might go by the other one
    return found


def _count(parameters: dict[str, str], key: str = "n") -> int | None:
    text = parameters.get(key, "")
    if not text:
        return None
    if _COUNT.fullmatch(text) is None:
        raise RequestInvalid(f"{key} is not a number")
    return int(text)


def _term(parameters: dict[str, str]) -> str:
    """What is searched for: any text that can be printed."""
    text = parameters.get("q", "")
    if len(text) > TEXT_LIMIT or not text.isprintable():
        raise RequestInvalid("q is too long, or has characters that cannot be printed")
    return text


def _text(parameters: dict[str, str], key: str) -> str | None:
    text = parameters.get(key, "")
    if len(text) > TEXT_LIMIT or not (text.isascii() and text.isprintable()):
        raise RequestInvalid(f"{key} is too long, or has characters that it cannot have")
    return text or None


# --- writing ----------------------------------------------------------------------------------------------


def _path(name: str, route: NamedRoute) -> str:
    match route:
        case ManifestRoute():
            return f"/v2/{name}/manifests/{route.reference}"
        case BlobRoute():
            return f"/v2/{name}/blobs/{route.digest}"
        case TagsRoute():
            return f"/v2/{name}/tags/list"
        case ReferrersRoute():
            return f"/v2/{name}/referrers/{route.digest}"
        case UploadsRoute():
            return f"/v2/{name}/blobs/uploads/"
        case UploadRoute():
            return f"/v2/{name}/blobs/uploads/{route.id}"


def _pairs(route: Route) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    match route:
        case TagsRoute() | CatalogRoute():
            if route.n is not None:
                pairs.append(("n", str(route.n)))
            if route.last is not None:
                pairs.append(("last", route.last))
        case ReferrersRoute():
            if route.artifact_type is not None:
                pairs.append(("artifactType", route.artifact_type))
        case SearchRoute():
            counts = (("n", route.n), ("page", route.page))
            pairs += [("q", route.term), *((key, str(count)) for key, count in counts if count is not None)]
        case _:
            pass
    return pairs


def _query(pairs: list[tuple[str, str]]) -> str:
    return "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in pairs) if pairs else ""
