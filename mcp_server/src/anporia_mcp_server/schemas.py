"""Schemas as small as a model needs them: a host carries those of all tools in every conversation."""

from __future__ import annotations

from typing import Any

__all__ = ["slim", "undescribed"]

_AROUND = frozenset({"notice", "dropped", "truncated", "sanitized", "resource"})
_SILENT = frozenset({"title", "minLength", "maxLength", "minItems", "maxItems", "additionalProperties"})
_BEYOND = (("maximum", 2**53 - 1), ("default", None))


def slim(schema: dict[str, Any], *, nulls: bool = False) -> dict[str, Any]:
    """Leave out what costs a model's attention and tells it little: titles, notes on answers, bounds beyond reason.

    What is left out of the input schema is checked all the same, and the error names the bound.
    """
    definitions = schema.pop("$defs", {})

    def slimmed(node: Any) -> Any:
        if isinstance(node, list):
            return [slimmed(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[str(node["$ref"]).rpartition("/")[2]]
            return slimmed({**target, **{key: value for key, value in node.items() if key != "$ref"}})
        kept = {}
        for key, value in node.items():
            if key == "properties":
                kept[key] = {name: slimmed(one) for name, one in value.items()}
            elif key == "items":
                kept[key] = {key: one for key, one in slimmed(value).items() if key != "description"}
            elif key not in _SILENT and (key, value) not in _BEYOND:
                kept[key] = slimmed(value)
        options = kept.get("anyOf")
        if isinstance(options, list) and len(options) == 2 and {"type": "null"} in options:
            other = next(one for one in options if one != {"type": "null"})
            if "type" in other or "enum" in other:
                del kept["anyOf"]
                # an argument that may be null is simply left out; null is taken for that too
                kept = {**other, **kept} | ({"type": [other.get("type", "string"), "null"]} if nulls else {})
        return kept

    result: dict[str, Any] = slimmed(schema)
    return result


def undescribed(node: Any) -> Any:
    """Leave out of an answer's schema what the answer shows by itself: notes, and what stands around the rows."""
    if isinstance(node, list):
        return [undescribed(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: undescribed(value) for key, value in node.items() if key not in ("properties", "description", "required")
    }
    if "properties" in node:
        # rows have a description of their own among their fields
        rows = {name: undescribed(one) for name, one in node["properties"].items()}
        kept["properties"] = {name: one for name, one in rows.items() if name not in _AROUND}
    return kept
