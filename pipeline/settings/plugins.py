"""The tables of plug-ins, and the sections of params.yaml that belong to plug-ins.

A table is a plain dictionary of a name to ".module:attribute". It is read without an import. A stage does not depend on
the tables: it depends on the plug-ins that it uses, so that adding one re-runs nothing.

A plug-in's module has a class `Settings` for its section. Reading params.yaml needs only the plug-ins' names. The stage
`plan` checks every section, and a plug-in checks its section again when it is used.
"""

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from models.settings import Settings
from pipeline.settings.errors import PARAMS_FILE, ParamsError, one_line

PROJECT = Path(__file__).parents[2]
# The package whose __init__.py holds a table, and the table's name.
PLUGIN_TABLES = {
    "sources": ("data.sources", "SOURCES"),
    "effects": ("data.degradations", "EFFECTS"),
    "restorers": ("models.restorers", "RESTORERS"),
    "losses": ("models.losses", "LOSSES"),
    "tasks": ("models.tasks", "TASKS"),
    "metrics": ("pipeline.metrics", "METRICS"),
}


def plugin_modules(kind: str, root: Path = PROJECT) -> dict[str, str]:
    """The modules of the plug-ins in a table, by name.

    Args:
        kind: a key of PLUGIN_TABLES.
        root: the project's folder.
    """
    package, table = PLUGIN_TABLES[kind]
    tree = ast.parse(root.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8"))
    entries: dict[str, str] = next(ast.literal_eval(value) for node in tree.body if (value := assigned(node, table)))
    return {name: package + entry.partition(":")[0] for name, entry in entries.items()}


def assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """The expression that a statement assigns to a name; None if it does something else."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return node.value if any(isinstance(target, ast.Name) and target.id == name for target in targets) else None


def check_section(kind: str, name: str, section: Any, key: str) -> Any:
    """Check a plug-in's section against the `Settings` in its module.

    Args:
        kind: "sources", "restorers", "losses" or "tasks".
        name: of the plug-in, in the table of its kind.
        section: as it stands in params.yaml. Values are not converted: "5" is no number.
        key: of the section, such as "losses.diffloss", for the message.

    Returns:
        The plug-in's Settings.

    Raises:
        ParamsError: the first mistake, in one line.
    """
    model: type[BaseModel] = import_module(plugin_modules(kind)[name]).Settings
    try:
        content = json.dumps(section)
    except (TypeError, ValueError, RecursionError) as error:
        raise ParamsError(
            f"{PARAMS_FILE}: {key}: holds a value that is no JSON ({error}). Use numbers, texts, lists and keys."
        ) from error
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}: {one_line(error, model, key)}") from error


class PluginSections(Settings):
    """A section that chooses a plug-in by its name, and has a section for each plug-in below it, as in the file."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any] | None]
    kind: ClassVar[str]  # of the plug-ins

    @classmethod
    def plugin_names(cls) -> list[str]:
        """The plug-ins that can be chosen: the keys of the sections below this one."""
        return list(plugin_modules(cls.kind))

    @classmethod
    def check_choice(cls, name: str) -> str:
        """Return the name of a plug-in.

        Raises:
            ValueError: there is no such plug-in; the text lists them.
        """
        if name not in cls.plugin_names():
            raise ValueError(f"{name!r} is unknown. Choose one of {', '.join(cls.plugin_names())}.")
        return name

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The plug-ins' sections, by name."""
        return {name: section for name, section in self.__pydantic_extra__.items() if section is not None}

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, content: Any) -> Any:
        known = {*cls.model_fields, *cls.plugin_names()}
        if isinstance(content, dict) and (unknown := [key for key in content if key not in known]):
            mistakes = [
                InitErrorDetails(type="extra_forbidden", loc=(str(key),), input=content[key]) for key in unknown
            ]
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return content
