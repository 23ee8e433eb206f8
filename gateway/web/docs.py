"""The API's documentation as one readable page, made from the OpenAPI document. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from gateway.web.problems import PROBLEMS

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Channel gateway API</title><link rel="stylesheet" href="/static/docs.css"></head><body>"""


def page(document: Mapping[str, Any]) -> str:
    """The page."""
    return "\n".join([_HEAD, *_navigation(document), "<main>", *_body(document), "</main></body></html>"])


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _navigation(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<nav><a class=home href='/'>Console</a>"
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><ul>"
        for method, path, operation in _operations(document):
            if tag["name"] in operation["tags"]:
                name = operation["operationId"]
                short = escape(path.removeprefix("/api/v1"))
                yield f"<li><a href='#{name}'><b class={method.lower()}>{method}</b> {short}</a></li>"
        yield "</ul>"
    yield "<h2>Reference</h2><ul><li><a href='#errors'>Errors</a></li><li><a href='#types'>Types</a></li>"
    yield "<li><a href='/api/openapi.json'>OpenAPI document</a></li></ul></nav>"


def _body(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield f"<h1>{escape(info['title'])} API</h1><p>{_prose(info['description'])}</p>"
    yield "<p>Every call needs <code>Authorization: Bearer KEY</code>; make a key with"
    yield " <code>gateway keys create NAME --scope admin --config F</code>.</p>"
    for method, path, operation in _operations(document):
        yield from _operation(method, path, operation)
    yield "<h2 id=errors>Errors</h2>"
    yield "<p>Errors are <code>application/problem+json</code> (RFC 9457); <code>code</code> is stable.</p>"
    yield "<table><tr><th>code<th>status<th>meaning</tr>"
    for code, kind in PROBLEMS.items():
        yield f"<tr id='{code}'><td><code>{code}</code><td>{kind.status}<td>{escape(kind.title)}</tr>"
    yield "</table><h2 id=types>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield from _type(name, schema)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section id='{operation['operationId']}'><h3><b class={method.lower()}>{method}</b> {escape(path)}</h3>"
    yield f"<p><strong>{escape(operation['summary'])}.</strong> {_prose(operation['description'])}"
    if scope := operation.get("x-scope"):
        yield f" <span class=scope>scope {escape(scope)}</span>"
    yield "</p>"
    shown = [entry for entry in operation["parameters"] if entry["in"] != "path"]
    if shown:
        yield "<table><tr><th>parameter<th>type<th>meaning</tr>"
        for entry in shown:
            place = " (header)" if entry["in"] == "header" else ""
            yield (
                f"<tr><td><code>{escape(entry['name'])}</code>{place}<td>{_kind(entry['schema'])}"
                f"<td>{_prose(entry.get('description', ''))}</tr>"
            )
        yield "</table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Takes {_kind(content['schema'])} <small>{escape(media)}</small></p>"
    yield "<table><tr><th>status<th>answer</tr>"
    for status, response in operation["responses"].items():
        content = next(iter(response.get("content", {}).values()), None)
        what = (
            _prose(response["description"])
            if int(status) >= 300
            else _kind(content["schema"])
            if content
            else "nothing"
        )
        yield f"<tr><td>{status}<td>{what}</tr>"
    yield "</table></section>"


def _type(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section id='type-{escape(name)}'><h3>{escape(name)}</h3><p>{_prose(schema.get('description', ''))}</p>"
    if properties := schema.get("properties"):
        required = set(schema.get("required", ()))
        yield "<table><tr><th>field<th>type<th></tr>"
        for field, kind in properties.items():
            note = "" if field in required else "optional"
            yield f"<tr><td><code>{escape(field)}</code><td>{_kind(kind)}<td>{note}</tr>"
        yield "</table>"
    yield "</section>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the types it names."""
    if reference := schema.get("$ref"):
        name = escape(reference.rsplit("/", 1)[-1])
        return f"<a href='#type-{name}'>{name}</a>"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_kind(entry) for entry in schema[several])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(entry))}</code>" for entry in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    kind = schema.get("type", "anything")
    words = " or ".join(kind) if isinstance(kind, list) else kind
    return escape({"date-time": "moment"}.get(schema.get("format", ""), words))


def _prose(text: str) -> str:
    """Text with `code` in backquotes."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
