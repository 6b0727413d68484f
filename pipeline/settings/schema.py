"""params.yaml as a JSON schema, for editors and for the reference of all parameters."""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from data.degradations import RECIPES
from pipeline.settings.grammar import BASE, CLEAN_RESTORED, FROZEN, JOINT, LOSS_NAME, NAMED_LOSSES, RETRAINED
from pipeline.settings.params import Params
from pipeline.settings.plugins import plugin_modules

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"  # the draft that YAML editors understand
SHARED = {"title", "discriminator"}  # keys of pydantic's schema that editors do not need
ENTRY = re.compile(r"(?m)^    ([\w, ]+): (.*(?:\n {8}.*)*)")  # of the part `Attributes` of a docstring


def params_schema() -> Schema:
    """The JSON schema of params.yaml, draft 7: types, ranges, choices, defaults and a description of every key.

    The sections of plug-ins come from the `Settings` in the module of each plug-in, so that this imports all of them.
    """
    schema = model_schema(Params)
    keys = schema["properties"]
    recipes = {"anyOf": [{"enum": list(RECIPES)}, {"type": "string"}]}
    keys["degradations"]["items"] = recipes
    objectives = [*plugin_modules("losses"), *NAMED_LOSSES, FROZEN]
    keys["objectives"]["items"] = {"anyOf": [{"enum": objectives}, {"type": "string"}]}
    keys["tasks"]["items"] = {"enum": list(plugin_modules("tasks"))}
    keys["arms"]["items"] = {"type": "string", "pattern": f".({RETRAINED}|{JOINT})$|^{CLEAN_RESTORED}."}
    _add_plugins(keys["data"], "sources", choice="source")
    _add_plugins(keys["train_restorer"], "restorers", choice="restorer")
    _add_plugins(keys["train_task"], "tasks")
    _add_plugins(keys["losses"], "losses")
    keys["losses"]["properties"] |= {name: plugin_schema("losses", kind[BASE]) for name, kind in NAMED_LOSSES.items()}
    keys["losses"]["patternProperties"] = _variants()
    degrade = keys["degrade"]["properties"]
    _named(degrade["severity_of"])
    _named(degrade["recipes"])["items"] = _effect()
    _named(degrade["sweeps"])["properties"]["recipe"] |= recipes
    _named(keys["train_restorer"]["properties"]["mixtures"])
    _, unpaired = _named(degrade["real"])["oneOf"]
    unpaired["properties"]["recipe"] |= recipes
    unpaired["properties"]["data"] = {"$ref": "#/properties/data"}
    return {"$schema": DRAFT, "title": "params.yaml", **schema}


def plugin_schema(kind: str, name: str) -> Schema:
    """The schema of one plug-in's section.

    Args:
        kind: sources, restorers, losses or tasks.
        name: of the plug-in.
    """
    return model_schema(import_module(plugin_modules(kind)[name]).Settings)


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What each key of a section means: from the docstring's `Attributes`, or from the comment behind the field."""
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            texts |= _comments(parent) | _attributes(parent)
    return texts


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    docstring = model.__dict__.get("__doc__") or ""
    part = inspect.cleandoc(docstring).partition("Attributes:\n")[2].partition("\n\n")[0]
    texts: dict[str, str] = {}
    for names, text in ENTRY.findall(part):
        texts |= dict.fromkeys(names.split(", "), _sentence(text))
    return texts


def _comments(model: type[BaseModel]) -> dict[str, str]:
    lines = textwrap.dedent(inspect.getsource(model)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            comment = lines[(field.end_lineno or 0) - 1].encode()[field.end_col_offset :].decode().strip()
            if comment.startswith("# "):
                texts[field.target.id] = _sentence(comment.removeprefix("# "))
    return texts


def _sentence(text: str) -> str:
    words = " ".join(text.split()).rstrip(".")
    return words.replace(" None", " null").removeprefix("None ") + "."


class _DescribedSchema(GenerateJsonSchema):
    """A schema with the description of every key."""

    def model_schema(self, schema: Any) -> Schema:
        result = super().model_schema(schema)
        texts = field_descriptions(schema["cls"])
        for name, field in schema["cls"].model_fields.items():
            if name in texts and (key := field.alias or name) in result["properties"]:
                result["properties"][key]["description"] = texts[name]
        return result


def model_schema(model: type[BaseModel]) -> Schema:
    """The schema of a section in draft 7, with a description of every key and without definitions."""
    schema = model.model_json_schema(schema_generator=_DescribedSchema)
    definitions = schema.pop("$defs", {})
    result: Schema = _inlined(schema, definitions)
    result["description"] = inspect.cleandoc(model.__doc__ or "").partition("\n")[0]
    return result


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema in draft 7, without definitions and titles."""
    if isinstance(node, list):
        return [_inlined(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, "description": target.get("description", "").partition("\n")[0], **node}
        del node["$ref"]
    if "prefixItems" in node:
        node = {**node, "items": node["prefixItems"]}
        del node["prefixItems"]
    result = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _inlined(part, definitions) for name, part in value.items()}
        elif key == "default" or key not in SHARED:
            result[key] = value if key == "default" else _inlined(value, definitions)
    return result


def _named(section: Schema) -> Schema:
    """The schema of the entries of a section whose names the user chooses. Other names than its pattern are errors."""
    section["additionalProperties"] = False
    (entry,) = section["patternProperties"].values()
    assert isinstance(entry, dict)
    return entry


def _add_plugins(section: Schema, kind: str, choice: str | None = None) -> None:
    """Add the sections of the plug-ins to the section that holds them, and the choices of the key that names one."""
    names = list(plugin_modules(kind))
    section.setdefault("properties", {}).update({name: plugin_schema(kind, name) for name in names})
    section["additionalProperties"] = False
    if choice is not None:
        section["properties"][choice] = {**section["properties"][choice], "enum": names}


def _variants() -> Schema:
    """Sections of `losses` under other names than the plug-ins': a loss of the table with other settings."""
    choices = []
    for name in plugin_modules("losses"):
        section = plugin_schema("losses", name)
        base = {
            "const": name,
            "description": "The loss whose settings this one takes, but for those that it has itself.",
        }
        choices.append({**section, "properties": {BASE: base, **section["properties"]}, "required": [BASE]})
    names = "|".join([*plugin_modules("losses"), *NAMED_LOSSES])
    return {f"^(?!({names})$){LOSS_NAME.pattern}$": {"oneOf": choices}}


def _effect() -> Schema:
    """One effect of a chain in `degrade.recipes`."""
    effect = {"enum": list(plugin_modules("effects")), "description": "The effect; its settings stand beside it."}
    return {"type": "object", "properties": {"effect": effect}, "required": ["effect"]}
