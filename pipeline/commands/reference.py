"""Command: rewrite the generated reference: docs/reference/params.schema.json, and tables of parameters and metrics.

Run it after a change of settings, plug-ins or metrics. Tables stand between the lines `<!-- begin name -->` and
`<!-- end name -->` of a page; the rest of the page is written by hand.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.metrics import METRICS, Metric, get_scoring
from pipeline.running.entry import run_command
from pipeline.settings.grammar import NAMED_LOSSES
from pipeline.settings.plugins import plugin_modules
from pipeline.settings.schema import Schema, model_schema, params_schema

FOLDER = Path("docs/reference")
SCHEMA = "params.schema.json"
PLUGIN_KEYS = {"data": "sources", "train_task": "tasks", "losses": "losses", "train_restorer": "restorers"}
SHARED = {  # what the keys that several plug-ins have are called on the page
    "FileSettings": "all sources that read files",
    "TermSettings": "all losses except `pixel`",
    "YoloSettings": "`detection` and `instance-segmentation`",
}
LONGEST_CHOICE = 12  # choices that a table lists
LONGEST_DEFAULT = 60  # characters
LARGEST_BOUND = 1e6  # larger bounds are no information for a reader


def schema_text() -> str:
    """The content of the JSON schema's file."""
    return json.dumps(params_schema(), indent=1, ensure_ascii=False) + "\n"


def parameter_tables() -> str:
    """A Markdown table for each section of params.yaml, with the sections of plug-ins below it."""
    keys = params_schema()["properties"]
    single = {name: schema for name, schema in keys.items() if not schema.get("properties")}
    parts = ["### Keys without a section", _table(_rows({"properties": single}))]
    for section, schema in keys.items():
        if section in single:
            continue
        parts += [f"### {section}", _capital(schema["description"])]
        kind = PLUGIN_KEYS.get(section)
        plugins = {*plugin_modules(kind), *NAMED_LOSSES} if kind else set()
        own = {name: part for name, part in schema["properties"].items() if name not in plugins}
        if own:
            parts.append(_table(_rows({**schema, "properties": own})))
        if kind:
            parts += _plugin_tables(section, kind)
    return "\n\n".join(parts)


def metric_table() -> str:
    """A Markdown table of the metrics of every task, of their classes and images, and of image quality."""
    lines = ["| task | metric | computed for each | unit | better |", "|---|---|---|---|---|"]
    for task in METRICS:
        scoring: Any = get_scoring(task)
        levels: dict[Metric, list[str]] = {}
        groups = (("split", "metrics"), ("class", "class_metrics"), ("image", "image_metrics"))
        for level, attribute in groups:
            for metric in getattr(scoring, attribute, ()):
                levels.setdefault(metric, []).append(level)
        for metric, names in levels.items():
            better = "higher" if metric.higher_is_better else "lower"
            name = f"**{metric.name}**" if metric.main and groups[0][0] in names else metric.name
            lines.append(f"| {task} | {name} | {', '.join(names)} | {metric.unit} | {better} |")
    return "\n".join(lines)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {  # page -> generated parts
    "parameters.md": {"parameters": parameter_tables},
    "metrics.md": {"metrics": metric_table},
}


def replace_parts(page: str, text: str, parts: Mapping[str, str]) -> str:
    """The text of a page with its generated parts replaced.

    Args:
        page: name of the page, for the message.
        text: of the page.
        parts: new content of each part, by name.

    Raises:
        ValueError: the page lacks the markers of a part.
    """
    for name, content in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page}: expected the lines {begin} and {end}. Add them.")
        text = pattern.sub(lambda _, new=f"{begin}\n{content}\n{end}": new, text)  # type: ignore[misc]
    return text


def generated_files(folder: Path) -> dict[Path, str]:
    """The new content of every file of the folder that is generated, or that has generated parts."""
    files = {folder / SCHEMA: schema_text()}
    for page, parts in PAGES.items():
        text = (folder / page).read_text()
        files[folder / page] = replace_parts(page, text, {name: make() for name, make in parts.items()})
    return files


def _plugin_tables(section: str, kind: str) -> Iterator[str]:
    """A table for the keys that several plug-ins share, and one for the keys of each plug-in."""
    users: dict[type[BaseModel], list[str]] = {}
    for name, module in plugin_modules(kind).items():
        users.setdefault(import_module(module).Settings, []).append(f"{section}.{name}")
    bases: dict[type[BaseModel], Any] = {model: model.__bases__[0] for model in users}
    parents = {model: base for model, base in bases.items() if base.model_fields}
    for parent in dict.fromkeys(parents.values()):
        yield f"#### {section}: keys of {SHARED[parent.__name__]}\n\n{_table(_rows(model_schema(parent)))}"
    for model, names in users.items():
        inherited = model_schema(parents[model])["properties"] if model in parents else {}
        keys = {key: part for key, part in model_schema(model)["properties"].items() if inherited.get(key) != part}
        if keys:
            yield f"#### {', '.join(names)}\n\n{_table(_rows({'properties': keys}))}"


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| `{key}` | {values} | {default} | {text} |" for key, values, default, text in rows)])


def _rows(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, values, default and meaning of every key of a section, those of sections below it included."""
    for key, part in schema["properties"].items():
        sections = [part, *part.get("anyOf", [])]
        keys: Schema = next((section["properties"] for section in sections if section.get("properties")), {})
        if "properties" not in part:
            default = _default(part["default"]) if "default" in part else "required"
            yield f"{prefix}{key}", _values(part), default, _capital(_escaped(part["description"]))
        yield from _rows({"properties": keys}, f"{prefix}{key}.")


def _default(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if part}  # {} says the same
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else f"{len(value)} names"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is in a table."""
    return text.replace("|", r"\|").replace("<", r"\<")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _values(schema: Mapping[str, Any]) -> str:
    """What a key can be, in words."""
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(map(_values, schema[choice])))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return _choices(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items", {})
        inner = ", ".join(map(_values, items)) if isinstance(items, list) else _values(items)
        return f"[{inner}]" if isinstance(items, list) else f"list of {inner}"
    if kind in ("integer", "number"):
        return _number(schema, kind)
    if kind == "object" or "properties" in schema:
        entry = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
        if schema.get("properties"):
            return "{" + ", ".join(schema["properties"]) + "}"
        return f"{{name: {_values(entry)}}}" if isinstance(entry, Mapping) and entry else "section"
    return {"boolean": "true, false", "string": "text", "null": "null"}.get(str(kind), "any")


def _choices(values: list[Any]) -> str:
    if len(values) > LONGEST_CHOICE:
        return "a name"
    return ", ".join(f"`{value}`" for value in values)


def _number(schema: Mapping[str, Any], kind: str) -> str:
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if schema.get(key, inf) < LARGEST_BOUND]
    multiple = [f"multiple of {schema['multipleOf']}"] if "multipleOf" in schema else []
    return " ".join([kind, ", ".join([*limits, *multiple])]).strip()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the reference")
    for path, content in generated_files(parser.parse_args().folder).items():
        path.write_text(content)
        print(path)


if __name__ == "__main__":
    run_command(main)
