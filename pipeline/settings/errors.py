"""Errors about params.yaml, in one line that names the key, what is wrong with it, and the choices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

PARAMS_FILE = Path("params.yaml")
LONGEST_VALUE = 200  # characters of a wrong value that a message shows


class ParamsError(ValueError):
    """params.yaml cannot be used. The text is one line that names the key and the choices."""


def one_line(error: ValidationError, model: type[BaseModel], key: str = "") -> str:
    """The first mistake in one line: its key, what is wrong, and how many more mistakes there are.

    Args:
        error: of pydantic.
        model: the class of the section.
        key: of the section in params.yaml; empty for the whole file.
    """
    # A misspelt key is both unknown and missing; the unknown one says more.
    first, *rest = sorted(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in (*([key] if key else []), *first["loc"]))
    if first["type"] == "extra_forbidden":
        text = f"unknown key. Known keys: {', '.join(_known_keys(model, first['loc'][:-1]))}"
    else:
        text = first["msg"].removeprefix("Value error, ")
        text += "" if first["type"] in ("value_error", "missing") else f", got {_shortened(first['input'])}."
    return " ".join(f"{place}: {text}".removeprefix(": ").split()) + (f" (and {len(rest)} more)" if rest else "")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a location below another."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:  # else the key of a mapping, or one of several types
            model = next(_models(field.annotation), model)
    known = [field.alias or name for name, field in model.model_fields.items()]
    return [*known, *getattr(model, "plugin_names", list)()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, at any depth."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
