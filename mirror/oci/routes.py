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
from urllib.parse import quote, unquote

from mirror.errors import BlobUploadUnknown, ManifestUnknown, NameInvalid, PathUnknown
from mirror.oci import queries
from mirror.oci.digest import Digest
from mirror.oci.names import Name, canonical_registry, is_registry, valid_tag

PATH_LIMIT = 2048
"""Characters of a path, encoded: enough for the longest name and digest with every character encoded."""

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: is this a registry, and may I come in? (end-1)"""


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    """A manifest by tag or digest (end-3, end-7, end-9); `tags`: what is to name it as well (end-7b)."""

    name: Name
    reference: str | Digest
    tags: tuple[str, ...] = ()


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
    """Manifests whose subject is this digest (end-12a, end-12b); those that follow `last` on an earlier page."""

    name: Name
    digest: Digest
    artifact_type: str | None = None
    last: Digest | None = None


@dataclass(frozen=True, slots=True)
class UploadsRoute:
    """Where an upload begins (end-4a): with the body of the blob `digest` (end-4b), to be hashed by `algorithm`
    (end-4c), or not at all, where `mount` can be had from the repository `source`, or from anywhere (end-11)."""

    name: Name
    digest: Digest | None = None
    mount: Digest | None = None
    source: Name | None = None
    algorithm: str | None = None


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """An upload that is under way (end-5, end-13, end-14), or ends as the blob `digest` (end-6)."""

    name: Name
    id: str
    digest: Digest | None = None


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
    parameters = queries.read(query) if query else _NO_PARAMETERS
    if path.startswith("/v1/"):
        return _old(path, parameters)
    registry, rest = _split_prefix(path)
    if rest in ("", "_catalog"):
        return CatalogRoute(queries.count(parameters), queries.text_of(parameters, "last")) if rest else Base()
    head, _, last = rest.rpartition("/")
    head, _, kind = head.rpartition("/")
    match kind:
        case "manifests":
            name = _name(registry, head, parameters)
            return ManifestRoute(name, _reference(last), queries.tags(query) if "tag" in parameters else ())
        case "blobs":
            if last == "uploads":
                return _uploads(registry, head, parameters)
            return BlobRoute(_name(registry, head, parameters), Digest.parse(last))
        case "uploads" if head.endswith("/blobs"):
            head = head[: -len("/blobs")]
            if not last:
                return _uploads(registry, head, parameters)
            name = _name(registry, head, parameters)
            return UploadRoute(name, _upload_id(last), queries.digest(parameters, "digest"))
        case "tags" if last == "list":
            return TagsRoute(
                _name(registry, head, parameters), queries.count(parameters), queries.text_of(parameters, "last")
            )
        case "referrers":
            name = _name(registry, head, parameters)
            filtered, before = queries.text_of(parameters, "artifactType"), queries.digest(parameters, "last")
            return ReferrersRoute(name, Digest.parse(last), filtered, before)
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
    return _path(path, route) + _query([*_pairs(route, ns=ns), ("ns", name.registry)])


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
            return SearchRoute(queries.term(parameters), queries.count(parameters), queries.count(parameters, "page"))
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


def _uploads(registry: str | None, name: str, parameters: dict[str, str]) -> UploadsRoute:
    source = parameters.get("from")
    return UploadsRoute(
        name=_name(registry, name, parameters),
        digest=queries.digest(parameters, "digest"),
        mount=queries.digest(parameters, "mount"),
        source=_name(registry, source, parameters) if source else None,
        algorithm=queries.algorithm(parameters),
    )


def _upload_id(text: str) -> str:
    if _UPLOAD_ID.fullmatch(text) is None:
        raise BlobUploadUnknown("no such upload")
    return text


# --- writing ----------------------------------------------------------------------------------------------


def _written(source: Name, name: Name, *, ns: bool) -> str:
    """A repository to mount from, as `from` says it in a request for `name`."""
    if source.registry is None:
        return source.path
    prefixed = f"{source.registry}/{source.path}"
    if not ns or _same_registry(source.path.partition("/")[0], source.registry):
        return prefixed
    return source.path


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


def _pairs(route: Route, *, ns: bool = False) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    match route:
        case TagsRoute() | CatalogRoute():
            if route.n is not None:
                pairs.append(("n", str(route.n)))
            if route.last is not None:
                pairs.append(("last", route.last))
        case ReferrersRoute():
            said = (("artifactType", route.artifact_type), ("last", route.last))
            pairs += [(key, str(value)) for key, value in said if value is not None]
        case ManifestRoute():
            pairs += [("tag", tag) for tag in route.tags]
        case UploadsRoute():
            pairs += _upload_pairs(route, ns=ns)
        case UploadRoute():
            pairs += [("digest", str(digest)) for digest in (route.digest,) if digest is not None]
        case SearchRoute():
            counts = (("n", route.n), ("page", route.page))
            pairs += [("q", route.term), *((key, str(count)) for key, count in counts if count is not None)]
        case _:
            pass
    return pairs


def _upload_pairs(route: UploadsRoute, *, ns: bool) -> list[tuple[str, str]]:
    pairs = [("mount", str(route.mount))] if route.mount is not None else []
    if route.source is not None:
        pairs.append(("from", _written(route.source, route.name, ns=ns)))
    if route.digest is not None:
        pairs.append(("digest", str(route.digest)))
    if route.algorithm is not None:
        pairs.append(("digest-algorithm", route.algorithm))
    return pairs


def _query(pairs: list[tuple[str, str]]) -> str:
    return "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in pairs) if pairs else ""
