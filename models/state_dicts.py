"""Weights by name from the files of other projects: .safetensors, and pickles that hold weights alone."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

PICKLES = (".pth", ".pt", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLES)
# Keys below which trainers put the weights. Averaged weights come first: they are what a project publishes.
WRAPPERS = (
    *("params_ema", "params-ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "params", "model_state", "model", "net", "network", "weights", "module"),
)
PREFIX = "module."  # of DistributedDataParallel
COMPILED = "_orig_mod."  # of torch.compile, anywhere in a name
LONGEST_REASON = 300  # characters of another library's message
DEEPEST = 4  # nested wrappers
STAND_INS = {  # first bytes of files that are there instead of the weights
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself. Run `git lfs pull` in its repository",
    b"<!doctype html": "is a web page, not the file itself. Download it with the page's download link",
    b"<html": "is a web page, not the file itself. Download it with the page's download link",
}


class WeightsError(ValueError):
    """A file holds no weights that can be read. The text is one line that names the file and the way out."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file, by name, without the keys and prefixes that trainers put around them.

    Only weights are read from a pickle: a file that holds code is an error, and nothing in it runs.

    Args:
        path: .safetensors, or a pickle: .pth, .pt, .ckpt, .bin.

    Raises:
        WeightsError: the file is missing or damaged, holds more than weights, or several networks.
    """
    check_is_file(path)
    if path.suffix == ".onnx":
        raise WeightsError(f"{path}: expected a {', '.join(SUFFIXES)} file. Give the one that was exported to ONNX")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: expected a {', '.join(SUFFIXES)} file")
    try:
        pickled = path.suffix in PICKLES
        content: Any = torch.load(path, map_location="cpu", weights_only=True) if pickled else load_file(path)
    except Exception as error:  # a file of any content
        raise WeightsError(
            f"{path}: not readable as weights alone; nothing in it was run. Convert it to .safetensors "
            f"({short_reason(error)})"
        ) from error
    return _without_prefixes(_unwrapped(path, content))


def check_is_file(path: Path) -> None:
    """Check that a file exists and is not something that a failed download left in its place.

    Raises:
        WeightsError: it is missing, empty, a pointer of Git LFS, or a web page.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}). Correct the path") from error
    if not start:
        raise WeightsError(f"{path}: is empty. Download it again")
    for magic, text in STAND_INS.items():
        if start.lower().startswith(magic):
            raise WeightsError(f"{path}: {text}")


def match_names(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """The weights that a network has, by its own names: whatever prefix its class or trainer gave them is removed.

    Args:
        state: weights by name.
        wanted: the names in the network's state dict.

    Returns:
        The weights of the names that are wanted; those of other names are left out.
    """
    first = next(iter(wanted), "")
    prefixes = {name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")} | {""}
    best = max(sorted(prefixes), key=lambda prefix: sum(f"{prefix}{name}" in state for name in wanted))
    return {name: state[f"{best}{name}"] for name in wanted if f"{best}{name}" in state}


def short_reason(error: Exception) -> str:
    """Another library's message in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _unwrapped(path: Path, content: Any, depth: int = 0) -> dict[str, Tensor]:
    """The innermost mapping of names to tensors."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: expected weights by name, found {type(content).__name__}")
    weights = {name: value for name, value in content.items() if isinstance(name, str) and torch.is_tensor(value)}
    inner = {name: value for name, value in content.items() if isinstance(value, Mapping) and value}
    named = next((inner[name] for name in WRAPPERS if name in inner), None)
    if named is not None and depth < DEEPEST:
        return _unwrapped(path, named, depth + 1)
    if weights:
        return weights
    networks = [name for name, value in inner.items() if any(torch.is_tensor(entry) for entry in value.values())]
    if len(networks) == 1:
        return _unwrapped(path, inner[networks[0]], DEEPEST)
    if networks:
        raise WeightsError(f"{path}: holds several networks: {', '.join(map(str, networks))}. Save the one you need")
    raise WeightsError(f"{path}: expected weights by name, found none")


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without what DistributedDataParallel and torch.compile add to all names."""
    state = {name.replace(COMPILED, ""): value for name, value in state.items()}
    while all(name.startswith(PREFIX) for name in state):
        state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    return state
