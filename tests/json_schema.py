"""Checks a value against a JSON schema of draft 7, as far as docs/reference/params.schema.json uses it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

WORDS = {"$schema", "title", "description", "default"}  # keywords that restrict nothing
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) in (int, float),
}
NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, bound: value % bound == 0,
}
LENGTHS: dict[str, Callable[[int, int], bool]] = {
    "minItems": lambda length, bound: length >= bound,
    "maxItems": lambda length, bound: length <= bound,
}
OBJECTS = {"properties", "patternProperties", "additionalProperties", "required"}


def mistakes(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What is wrong with a value, one text for each mistake; empty if it is valid.

    Args:
        value: as read from YAML or JSON.
        schema: that the value must meet.
        root: the whole schema, for references.
        path: of the value, for the texts.

    Raises:
        KeyError: the schema has a keyword that is not known here.
    """
    if "$ref" in schema:  # draft 7 ignores what stands beside it
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from mistakes(value, target, root, path)
        return
    for keyword, expected in schema.items():
        if keyword in WORDS or keyword in OBJECTS:
            continue
        if not _holds(keyword, expected, value, root):
            yield f"{path}: {keyword} {expected!r}"
    if isinstance(value, dict):
        yield from _object(value, schema, root, path)
    elif isinstance(value, list):
        items = schema.get("items", {})
        for index, part in enumerate(value):
            item = items if isinstance(items, dict) else items[index] if index < len(items) else {}
            yield from mistakes(part, item, root, f"{path}[{index}]")


def _holds(keyword: str, expected: Any, value: Any, root: Mapping[str, Any]) -> bool:
    """Whether a value meets a keyword that looks at the whole value."""
    if keyword == "type":
        return TYPES[expected](value)
    if keyword in ("anyOf", "oneOf"):
        valid = [not any(mistakes(value, choice, root)) for choice in expected]
        return any(valid) if keyword == "anyOf" else sum(valid) == 1
    if keyword in ("enum", "const"):
        return value in (expected if keyword == "enum" else [expected])
    if keyword == "pattern":
        return not isinstance(value, str) or re.search(expected, value) is not None
    if keyword in LENGTHS:
        return not isinstance(value, list) or LENGTHS[keyword](len(value), expected)
    if keyword == "items":
        return True
    return not TYPES["number"](value) or NUMBERS[keyword](value, expected)


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}: missing"
    patterns = schema.get("patternProperties", {})
    for name, part in value.items():
        schemas = [patterns[pattern] for pattern in patterns if re.search(pattern, name)]
        if name in schema.get("properties", {}):
            schemas.append(schema["properties"][name])
        other = schema.get("additionalProperties", True)
        if not schemas and other is False:
            yield f"{path}.{name}: unknown key"
        for found in schemas or ([other] if isinstance(other, dict) else []):
            yield from mistakes(part, found, root, f"{path}.{name}")
