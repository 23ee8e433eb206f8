"""A small JSON Schema validator: the keywords our OpenAPI document uses, and an error for any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ANNOTATIONS = frozenset({"title", "description", "default", "contentMediaType", "discriminator"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def problems(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], path: str = "$") -> list[str]:
    """Where and how `value` does not fit."""
    if "$ref" in schema:
        target: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return problems(value, target, document, path)
    found: list[str] = []
    for keyword, wanted in schema.items():
        found += _check(keyword, wanted, value, schema, document, path)
    return found


def _check(
    keyword: str, wanted: Any, value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], path: str
) -> list[str]:
    match keyword:
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            fits = any(
                isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds
            )
            return [] if fits else [f"{path}: {value!r} is no {wanted}"]
        case "const":
            return [] if value == wanted else [f"{path}: {value!r} is not {wanted!r}"]
        case "enum":
            return [] if value in wanted else [f"{path}: {value!r} is none of {wanted}"]
        case "anyOf":
            tried = [problems(value, entry, document, path) for entry in wanted]
            return [] if any(not entry for entry in tried) else min(tried, key=len)
        case "properties" if isinstance(value, dict):
            return [
                problem
                for name, entry in wanted.items()
                if name in value
                for problem in problems(value[name], entry, document, f"{path}.{name}")
            ]
        case "required" if isinstance(value, dict):
            return [f"{path}.{name}: missing" for name in wanted if name not in value]
        case "additionalProperties" if isinstance(value, dict):
            more = [name for name in value if name not in schema.get("properties", {})]
            if wanted is False:
                return [f"{path}.{name}: not declared" for name in more]
            inner = wanted if isinstance(wanted, dict) else {}
            return [problem for name in more for problem in problems(value[name], inner, document, f"{path}.{name}")]
        case "items" if isinstance(value, list):
            return [p for i, entry in enumerate(value) for p in problems(entry, wanted, document, f"{path}[{i}]")]
        case "pattern" if isinstance(value, str):
            return [] if re.search(wanted, value) else [f"{path}: {value!r} does not match {wanted}"]
        case "format" if isinstance(value, str):
            return [] if wanted != "date-time" or _MOMENT.fullmatch(value) else [f"{path}: {value!r} is no moment"]
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "maxProperties" | "minimum" | "maximum":
            size = value if isinstance(value, int) else len(value)
            fits = size >= wanted if keyword.startswith("min") else size <= wanted
            return [] if fits else [f"{path}: {keyword} {wanted}"]
        case "properties" | "required" | "additionalProperties" | "items" | "pattern" | "format":
            return []
        case _:
            return [] if keyword in _ANNOTATIONS else [f"{path}: the validator does not know {keyword!r}"]
