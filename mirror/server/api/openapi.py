"""The API's own description (OpenAPI 3.1), made from the endpoints and their types."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

import mirror
from mirror.cache.rights import ACTIONS
from mirror.server.api.endpoint import Asked, Endpoint, NoBody, NoQuery

_REF = "#/components/schemas/{model}"
Mode = Literal["validation", "serialization"]


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    code: str
    message: str
    detail: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Errors:
    """The one shape of errors (OCI distribution-spec, "Error Codes"); `detail.exit_code` is the command line's."""

    errors: list[ErrorEntry]


def endpoint(others: Sequence[Endpoint]) -> Endpoint:
    """`GET /openapi.json`, which describes the others and itself."""
    made: list[dict[str, Any]] = []

    async def answer(asked: Asked) -> dict[str, Any]:
        del asked
        if not made:  # not at the start: it takes a while, and few ask
            made.append(await asyncio.to_thread(describe, [*others, own]))
        return made[0]

    own = Endpoint("GET", "/openapi.json", "This document", answer, dict[str, Any])
    return own


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document."""
    inputs: list[tuple[Any, Mode, TypeAdapter[Any]]] = [
        ((index, "body"), "validation", TypeAdapter(each.body)) for index, each in enumerate(endpoints)
    ]
    inputs += [((index, "query"), "validation", TypeAdapter(each.query)) for index, each in enumerate(endpoints)]
    inputs += [((index, "result"), "serialization", TypeAdapter(each.result)) for index, each in enumerate(endpoints)]
    inputs.append(((-1, "errors"), "serialization", TypeAdapter(Errors)))
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    components = definitions.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for index, each in enumerate(endpoints):
        query = _resolved(schemas[(index, "query"), "validation"], components)
        paths.setdefault(each.path, {})[each.method.lower()] = {
            "operationId": f"{each.method.lower()}_{each.path.strip('/').replace('.', '_')}",
            "summary": each.summary,
            "x-action": str(ACTIONS[each.path, each.method]),
            **({"parameters": _parameters(query)} if each.query is not NoQuery else {}),
            **(_request(schemas[(index, "body"), "validation"]) if each.body is not NoBody else {}),
            "responses": _responses(each, schemas[(index, "result"), "serialization"], schemas),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "mirror", "version": mirror.__version__, "description": "The life of an image."},
        "servers": [{"url": "/api/v1"}],
        "security": [{}, {"basic": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}},
    }


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    ref = schema.get("$ref")
    return components[ref.rpartition("/")[2]] if ref else schema


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": each}
        for name, each in schema.get("properties", {}).items()
    ]


def _request(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _responses(each: Endpoint, result: dict[str, Any], schemas: Any) -> dict[str, Any]:
    kind = "application/x-ndjson" if each.stream else "application/json"
    said = "Events, one a line" if each.stream else "Done"
    error = {"content": {"application/json": {"schema": schemas[(-1, "errors"), "serialization"]}}}
    return {
        "200": {"description": said, "content": {kind: {"schema": result}}},
        **{
            status: {"description": text, **error}
            for status, text in (("400", "A bad request"), ("401", "Log in"), ("403", "Denied"), ("404", "Unknown"))
        },
        "default": {"description": "Another error", **error},
    }
