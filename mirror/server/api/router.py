"""`/api/v1/`: reads a request by its endpoint, checks the right to it, writes what comes out.

Everything is allowed by `rights.ACTIONS` or not at all. A web page gets nothing: whatever a browser sends along with
its request (`Origin`, `Sec-Fetch-Site`) ends it, and so does a `Host` that is no name of this mirror (DNS rebinding).
"""

import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs

from aiohttp import web
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from mirror.cache.rights import ACTIONS, Rights, Role
from mirror.errors import Denied, MirrorError, PathUnknown, RequestInvalid, Unsupported
from mirror.operations.events import failed
from mirror.server.api.endpoint import Asked, Endpoint, NoBody
from mirror.server.call import Call

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
BODY_BYTES = 4 << 20
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_STRICT = ConfigDict(extra="forbid")


class _Compiled:
    """An endpoint with what pydantic makes of its types, at the first request: that takes milliseconds each."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @cached_property
    def query(self) -> TypeAdapter[Any]:
        return TypeAdapter(with_config(_STRICT)(self.endpoint.query))

    @cached_property
    def body(self) -> TypeAdapter[Any]:
        return TypeAdapter(with_config(_STRICT)(self.endpoint.body))

    @cached_property
    def result(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.endpoint.result)

    @cached_property
    def lists(self) -> frozenset[str]:
        """Names of parameters that may be given several times."""
        hints = get_type_hints(self.endpoint.query)
        return frozenset(name for name, hint in hints.items() if _is_list(hint))


class Router:
    """The table of `/api/v1`. `names` says of a `Host` whether it is this mirror's.

    Raises `ValueError` for two endpoints in one place, and for one that `rights.ACTIONS` does not know.
    """

    def __init__(self, endpoints: Iterable[Endpoint], *, rights: Rights, names: Callable[[str], bool]) -> None:
        self._rights = rights
        self._names = names
        self._table: dict[str, dict[str, _Compiled]] = {}
        for endpoint in endpoints:
            if (endpoint.path, endpoint.method) not in ACTIONS:
                raise ValueError(f"{endpoint.method} {endpoint.path} stands in no row of rights.ACTIONS")
            methods = self._table.setdefault(endpoint.path, {})
            if endpoint.method in methods:
                raise ValueError(f"{endpoint.method} {endpoint.path} is there twice")
            methods[endpoint.method] = _Compiled(endpoint)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [each.endpoint for methods in self._table.values() for each in methods.values()]

    async def answer(self, call: Call) -> web.StreamResponse:
        """One request. Raises a `MirrorError` for what is refused before anything was sent."""
        request = call.request
        path, _, query = request.raw_path.partition("?")
        self._check_origin(call)
        methods = self._table.get(path.removeprefix(PREFIX))
        if methods is None:
            raise PathUnknown(f"{path[:200]} is no route of this API; {PREFIX}/openapi.json lists them")
        method = "GET" if call.head else request.method
        compiled = methods.get(method)
        if compiled is None:
            raise Unsupported(
                f"{request.method} is not supported here",
                detail={"method": request.method, "allow": _allowed(methods)},
            )
        self._rights.check(call.principal, compiled.endpoint.path, method)
        asked = Asked(call.principal, call.client, _query(compiled, query), await _body(compiled, request))
        if compiled.endpoint.stream:
            return await _stream(compiled, asked, request)
        answer = cast("Callable[[Asked], Any]", compiled.endpoint.answer)
        body = compiled.result.dump_json(await answer(asked), by_alias=True)
        return web.Response(body=None if call.head else body, headers={"Content-Type": "application/json", **_HEADERS})

    def _check_origin(self, call: Call) -> None:
        if call.principal.role is Role.SOCKET:
            return
        headers = call.request.headers
        if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none":
            raise Denied("this API is not for web pages: the request carries Origin or Sec-Fetch-Site")
        if not (_is_address(call.host) or self._names(call.host)):
            raise Denied(
                f'"{call.host[:100]}" is not known as a name of this mirror; use its address, or list the name in'
                " `hosts` of [access]"
            )


async def _stream(compiled: _Compiled, asked: Asked, request: web.BaseRequest) -> web.StreamResponse:
    """Events as JSON lines. A failure before the first event is an ordinary error."""
    events = cast("AsyncIterator[Any]", cast("Callable[[Asked], Any]", compiled.endpoint.answer)(asked))
    async with aclosing(cast("Any", events)):
        first = await anext(events)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", **_HEADERS})
        await response.prepare(request)
        await response.write(_line(compiled, first))
        try:
            async for event in events:
                await response.write(_line(compiled, event))
        except MirrorError as error:
            await response.write(_last(failed("", error)))
        except (ConnectionError, OSError):
            raise
        except Exception as error:
            log.exception("%s %s broke", compiled.endpoint.method, compiled.endpoint.path)
            await response.write(
                _last(failed("", MirrorError(f"internal error: {error!r}; the mirror's log says more")))
            )
        await response.write_eof()
    return response


def _line(compiled: _Compiled, event: object) -> bytes:
    return compiled.result.dump_json(event, by_alias=True) + b"\n"


def _last(event: object) -> bytes:
    """An error that ends everything, and the end."""
    error = TypeAdapter(type(event)).dump_json(event)
    return error + b'\n{"ok":0,"failed":1,"event":"end"}\n'


def _query(compiled: _Compiled, text: str) -> Any:
    try:
        pairs = parse_qs(text, keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError:
        raise RequestInvalid("the query cannot be read") from None
    values: dict[str, object] = {}
    for name, given in pairs.items():
        if len(given) > 1 and name not in compiled.lists:
            raise RequestInvalid(f"{name[:100]} is given {len(given)} times")
        values[name] = given if name in compiled.lists else given[0]
    return _validated(compiled.query, values, "query")


async def _body(compiled: _Compiled, request: web.BaseRequest) -> Any:
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > BODY_BYTES:
            raise RequestInvalid(f"the body is larger than {BODY_BYTES} bytes")
    if compiled.endpoint.body is NoBody:
        return NoBody()
    if request.content_type != "application/json":
        raise RequestInvalid("the body has to be JSON, and its Content-Type application/json")
    try:
        value = json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"the body is not JSON: {error}") from None
    return _validated(compiled.body, value, "body")


def _validated(adapter: TypeAdapter[Any], value: object, where: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RequestInvalid("; ".join(_mistakes(error, where))) from None


def _mistakes(error: ValidationError, where: str) -> list[str]:
    """What is wrong, where: the first five."""
    found = []
    for each in error.errors(include_url=False, include_context=False)[:5]:
        place = ".".join(str(part) for part in each["loc"])[:100]
        message = "is no parameter of this route" if each["type"].startswith("unexpected") else each["msg"]
        found.append(f"{where}: {place}: {message}" if place else f"{where}: {message}")
    return found


def _allowed(methods: Mapping[str, _Compiled]) -> str:
    names = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
    return ", ".join(names)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (tuple, list) or any(_is_list(each) for each in get_args(hint))


def _is_address(host: str) -> bool:
    """Whether a `Host` is an address or `localhost`: no name that somebody else's DNS can point here."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
