"""docs/feed.schema.json: the JSON Schema of a feed file, by which editors complete and check one."""

from __future__ import annotations

import ast
import inspect
import json
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from jsonschema import Draft7Validator

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Frozen
from stream_app.settings import PROJECT
from stream_app.sinks.registry import SINKS

PAGE = PROJECT / "docs" / "feed.schema.json"
_OF_NAMES = {"$defs", "properties", "patternProperties"}
_SPELLED = {"$defs": "definitions", "prefixItems": "items"}


def page() -> str:
    """Return what the file has to say. Draft 7 is what all editors know."""
    schema = Feed.model_json_schema()
    for kind in SINKS.values():
        sink = kind.model_json_schema(ref_template="#/$defs/{model}")
        schema["$defs"] |= sink.pop("$defs", {}) | {kind.__name__: sink}
    for model in _below(Frozen):
        part = schema if model is Feed else schema["$defs"].get(model.__name__, {})
        for key, meaning in _meanings(model).items():
            if key in part.get("properties", {}):
                part["properties"][key].setdefault("description", meaning)
    schema["$defs"]["SinkTable"] = {"oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in SINKS.values()]}
    del schema["properties"]["name"]  # the file's own
    schema["required"].remove("name")
    text = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **_as_draft_7(schema)}, indent=2)
    return text.replace("#/$defs/", "#/definitions/") + "\n"


def _below(model: type[Frozen]) -> Iterator[type[Frozen]]:
    """Yield all models that extend it."""
    for one in model.__subclasses__():
        yield one
        yield from _below(one)


def _meanings(model: type[Frozen]) -> dict[str, str]:
    """Return the docstring of each key, by what it is called in a file."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Frozen):
            (declared,) = ast.parse(inspect.getsource(base)).body
            assert isinstance(declared, ast.ClassDef)
            for one, after in pairwise(declared.body):
                match one, after:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                        if key := model.model_fields.get(name):
                            found[key.alias or name] = inspect.cleandoc(meaning)
    return found


def mistakes(text: str) -> list[str]:
    """Return what the schema has against a feed file."""
    errors = Draft7Validator(json.loads(PAGE.read_text())).iter_errors(_read(text))
    return [f"{error.json_path}: {error.message}" for error in errors]


def keys() -> set[str]:
    """Return every key that a feed file can have, behind the name of what has it: "Window.slide"."""
    schema = json.loads(PAGE.read_text())
    parts = {"Feed": schema, **schema["definitions"]}
    return {f"{name}.{key}" for name, part in parts.items() for key in part.get("properties", ())}


def keys_in(text: str) -> set[str]:
    """Return those that a feed file has."""
    schema = json.loads(PAGE.read_text())
    return set(_used({**schema, "name": "Feed"}, _read(text), schema["definitions"]))


def _read(text: str) -> Any:
    """Return a feed file as an editor has it, to which a date is a text."""
    return json.loads(json.dumps(tomllib.loads(text), default=str))


def _used(part: Any, value: Any, definitions: dict[str, Any]) -> Iterator[str]:
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        part = {**definitions[name], "name": name}
    for kind in (*part.get("oneOf", ()), *part.get("anyOf", ())):
        if Draft7Validator({**kind, "definitions": definitions}).is_valid(value):
            yield from _used(kind, value, definitions)
    for key, one in value.items() if isinstance(value, dict) else ():
        if key in (declared := part.get("properties", {})):
            yield f"{part['name']}.{key}"
            yield from _used(declared[key], one, definitions)
        else:
            for of_names in part.get("patternProperties", {}).values():
                yield from _used(of_names, one, definitions)


def _as_draft_7(schema: Any) -> Any:
    """Return the same as draft 7 spells it, closed where keys are names, and without null, which TOML has not."""
    if isinstance(schema, list):
        return [_as_draft_7(one) for one in schema if one != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    key: str
    spelled: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _OF_NAMES:
            spelled[_SPELLED.get(key, key)] = {name: _as_draft_7(one) for name, one in value.items()}
        elif key not in {"title", "default"}:  # both are Python's
            spelled[_SPELLED.get(key, key)] = _as_draft_7(value)
    if "patternProperties" in spelled:
        spelled["additionalProperties"] = False
    if len(spelled.get("anyOf", ())) == 1:
        spelled |= spelled.pop("anyOf")[0]
    return spelled
