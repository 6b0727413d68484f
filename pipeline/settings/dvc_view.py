"""Checks of what DVC itself reads in params.yaml: the keys that stages depend on, and the folder of the data."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.settings.params import PARAMS_FILE, RUN_IN_ROOT, ParamsError, read_yaml


def check_complete(stages: Mapping[str, Any]) -> None:
    """Check that params.yaml has every key that a stage needs. DVC would find out only when it runs that stage.

    Args:
        stages: those of dvc.yaml.

    Raises:
        ParamsError: the first key that is missing.
    """
    content = read_yaml(PARAMS_FILE, hint=RUN_IN_ROOT)
    for key in dict.fromkeys(key for stage in stages.values() for key in stage.get("params", []) if "$" not in key):
        node = content
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                raise ParamsError(f"{PARAMS_FILE}: {key} is missing; take it over from the project's own {PARAMS_FILE}")
            node = node[part]


def check_root(root: str, written: Path) -> None:
    """Check `data.root` as it stands in params.yaml, because DVC reads it there too.

    Args:
        root: the value.
        written: the folder that the stages write into.

    Raises:
        ParamsError: it has ~ or a variable, which DVC does not expand, or what the stages write lies in it.
    """
    key, at_home = f"{PARAMS_FILE}: data.root: {root!r}", root == "~" or root.startswith("~/")
    expanded = os.path.expandvars(str(Path(root).expanduser()) if at_home else root)
    if at_home or expanded != root:
        raise ParamsError(f"{key}: DVC does not expand ~ and variables. Write {expanded!r}.")
    path = Path(root).resolve()
    if written.resolve().is_relative_to(path):
        raise ParamsError(
            f"{key}: this folder holds the project, and with it the files that the stages write. Put the data into a "
            "folder of their own, such as data/mine, and name that."
        )
    if path.is_relative_to(written.resolve()):
        raise ParamsError(f"{key}: the stages write into {written}/. Put the data into another folder.")
