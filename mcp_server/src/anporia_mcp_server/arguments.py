"""What a tool takes and gives, read off its function: JSON schemas for the model, and checked arguments for the tool.

Schemas are made when they are first asked for: a host waits for the answer to `initialize`, and that needs none.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, get_type_hints

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
)

from .failures import ToolFailure
from .foreign import one_line
from .schemas import slim, undescribed

__all__ = ["AgentId", "EventId", "Limit", "Signature", "Topic", "exact"]

_ID = re.compile(r"[0-9a-f]{64}")
_NOT_A_PLACE = re.compile(r"function-|list\[|nullable|constrained-|(str|int)$")
_GOT = 60  # characters of a wrong value that are repeated to whoever gave it


def _an_id(value: str) -> str:
    if not _ID.fullmatch(value):
        wrong = len(value) if len(value) != 64 else "64, some of them not lower-case hex"
        raise ValueError(f"must be 64 lower-case hex characters (got {wrong}).")
    return value


# the pattern itself stands in no schema: eleven times of it would be a fortieth of what all tools may cost
AgentId = Annotated[str, AfterValidator(_an_id), Field(description="agent id, 64 hex")]
EventId = Annotated[str, AfterValidator(_an_id), Field(description="event id, 64 hex")]
Topic = Annotated[str, Field(min_length=1, max_length=256)]
Limit = Annotated[int, Field(ge=1, le=1000, description="at most so many")]


def exact(*allowed: int) -> BeforeValidator:
    """Refuse what only equals an allowed number, such as true and 1.0."""

    def check(value: object) -> object:
        if type(value) is not int or value not in allowed:
            raise ValueError(f"must be {_either([str(one) for one in allowed])}")
        return value

    return BeforeValidator(check)


class Signature:
    """The arguments and the answer of one tool. The function's first parameter is the session, no argument."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """What the arguments must be."""
        return slim(self._model.model_json_schema())

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """What the structured answer is."""
        schema = slim(TypeAdapter(self._hints["return"]).json_schema(mode="serialization"), nulls=True)
        slimmed: dict[str, Any] = undescribed(schema)
        return slimmed

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check arguments and give them by name, with defaults. Raises `ToolFailure` that says what each must be."""
        fields = self._model.model_fields
        unknown = [name for name in given if name not in fields]
        if unknown:
            raise ToolFailure(_unknown(str(unknown[0]), list(fields)), "bad_argument")
        read = {name: _parsed(value, fields[name].annotation) for name, value in given.items()}
        try:
            model = self._model.model_validate(read)
        except ValidationError as exc:
            problems = [self._problem(error) for error in exc.errors(include_url=False, include_context=True)]
            raise ToolFailure(" ".join(dict.fromkeys(problems[:5])), "bad_argument") from None
        return {name: getattr(model, name) for name in fields}

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self._function, include_extras=True)

    @cached_property
    def _model(self) -> type[BaseModel]:
        # keyword-only ones come from the server: they are no arguments of the model's
        given = list(inspect.signature(self._function).parameters.values())[1:]
        parameters = [one for one in given if one.kind is not one.KEYWORD_ONLY]
        fields: dict[str, Any] = {
            one.name: (self._hints[one.name], ... if one.default is one.empty else one.default) for one in parameters
        }
        config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
        return create_model(self._function.__name__, __config__=config, **fields)

    def _problem(self, error: Any) -> str:
        # pydantic also names which member of a union it tried, and which of our functions looked
        where = [part for part in map(str, error["loc"]) if not _NOT_A_PLACE.match(part)]
        name = where[0] if where else "arguments"
        place = name + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in where[1:])
        return _sentence(place, error, self.input_schema["properties"].get(name, {}))


def _sentence(place: str, error: Any, schema: Mapping[str, Any]) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return f"{place} is required."
    if kind == "value_error" and "64 lower-case hex" in str(context["error"]):
        where = "anporia_get_agents" if schema.get("description", "").startswith("agent") else "anporia_query"
        return f"{place} {context['error']} Get ids from {where}."
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{place} must be {_bounds(schema, context)} (got {_short(value)})."
    if kind == "value_error":
        return f"{place} {context['error']} (got {_short(value)})."
    if kind == "literal_error":
        return f"{place} must be {context['expected']} (got {_short(value)})."
    if kind in ("string_too_long", "too_long", "string_too_short", "too_short"):
        most, least = context.get("max_length"), context.get("min_length")
        what = "characters" if kind.startswith("string") else "items"
        bound = f"at most {most}" if most is not None else f"at least {least}"
        return f"{place} must have {bound} {what} (got {len(value)})."
    wanted = {
        "string_type": "text", "int_type": "an integer", "list_type": "a list", "bool_type": "true or false",
        "dict_type": "an object", "float_type": "a number",
    }.get(kind)  # fmt: skip
    if wanted:
        return f"{place} must be {wanted} (got {_short(value)})."
    if kind == "extra_forbidden":
        return f"{place} is unknown."
    if kind == "string_pattern_mismatch" and "description" in schema:
        return f"{place} must be: {schema['description']} (got {_short(value)})."
    message = str(error["msg"])
    return f"{place}: {message[0].lower()}{message[1:]} (got {_short(value)})."


def _bounds(schema: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f"{schema['minimum']} to {schema['maximum']}"
    return f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f'Did you mean "{near[0]}"?' if near else f"This tool takes {', '.join(known) or 'no arguments: leave it out'}."
    )
    return f'Unknown argument "{one_line(name, _GOT)}". {hint}'


def _parsed(value: Any, annotation: Any) -> Any:
    """Read a list, an object or a number that came as text, as some hosts send them."""
    if not isinstance(value, str) or _takes_text(annotation):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _takes_text(annotation: Any) -> bool:
    options = getattr(annotation, "__args__", ())
    return annotation in (str, Any) or any(
        _takes_text(one) for one in options if getattr(annotation, "__origin__", None) not in (list, dict)
    )


def _short(value: object) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return one_line(json.dumps(value, default=str), _GOT)


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
