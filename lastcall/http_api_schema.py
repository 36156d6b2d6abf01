"""The page of the server API: OpenAPI made of the same types that requests are read with."""

from typing import Any

import msgspec

from lastcall.server_api import METHODS, RESULTS, Failure

BATCH = "batch"
_JSON = "application/json"
_TEXT = {"type": "string"}
_ERROR_MODE = {
    "name": "X-Centrifugo-Error-Mode",
    "in": "header",
    "description": "`transport`: an error becomes the HTTP status, and its object the body.",
    "schema": _TEXT,
}


def described(name: str, kind: type[Any]) -> dict[str, Any]:
    """What `add_api_route` is told of the method *name*, whose requests are of *kind*."""
    schema = {"schema": _schema(kind)}
    return {
        "methods": ["POST"],
        "name": f"server_api_{name}",
        "summary": name,
        "description": " ".join((kind.__doc__ or "").split()),
        "response_model": None,
        "openapi_extra": {
            "parameters": [_ERROR_MODE],
            "requestBody": {"required": True, "content": {_JSON: schema}},
        },
        "responses": _responses(name),
    }


def _responses(name: str) -> dict[int | str, dict[str, Any]]:
    error = _schema(Failure)
    unreadable = _answer("This is no request of this method.", _object(error=error), error)
    status = _answer("The error, for a caller that asks for statuses.", error)
    return {
        200: _answer("What became of it.", *_replies(name)),
        400: unreadable,
        401: {"description": "The key is missing or wrong, or none is configured."},
        404: status,
        409: status,
        413: _answer("The body is longer than `MAX_API_BODY`.", _object(error=error)),
        416: status,
        500: status,
        503: {"description": "This worker is leaving: try again over a new connection."},
    }


def _replies(name: str) -> list[dict[str, Any]]:
    refused = _object(error=_schema(Failure))
    if name != BATCH:
        return [_object(result=_schema(RESULTS[name])), refused]
    each = [_object(**{method: _schema(RESULTS[method])}) for method in METHODS]
    return [_object(replies={"type": "array", "items": {"anyOf": [*each, refused]}})]


def _answer(description: str, *bodies: dict[str, Any]) -> dict[str, Any]:
    schema = bodies[0] if len(bodies) == 1 else {"anyOf": list(bodies)}
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _object(**members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members)}


def _schema(kind: type[Any]) -> dict[str, Any]:
    """The schema of *kind* in one piece: a route cannot bring components of its own."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    in_one: dict[str, Any] = _in_one_piece(schema, parts)
    return in_one


def _in_one_piece(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_in_one_piece(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _in_one_piece(parts[schema["$ref"]], parts)
    left_out = {"title", "required"} if schema.get("required") == [] else {"title"}
    return {
        # A property may be called like a word of the schema's own.
        key: {name: _in_one_piece(each, parts) for name, each in value.items()}
        if key == "properties"
        else _in_one_piece(value, parts)
        for key, value in schema.items()
        if key not in left_out
    }
