"""Restorers: networks that turn a degraded image into a restored one of the same size.

They share a contract: (N, 3, H, W) in [0, 1] in and out, any H and W, the same result for an image alone as in a
batch. In eval mode the output is clipped to [0, 1]; in training mode it is not, so that a gradient reaches every pixel.

To add one, write a module here with a class `Settings` and a function that builds a `Restorer` from them, and add a
line to RESTORERS.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..settings import first_mistake

if TYPE_CHECKING:
    from .contract import Restorer

__all__ = ["CHECKPOINT", "RESTORERS", "RestorerError", "build_restorer", "load_restorer", "save_restorer"]

RESTORERS = {
    "unet": ".unet:build_unet",
    "nafnet": ".nafnet:build_nafnet",
    "restormer": ".restormer:build_restormer",
    "retinexformer": ".retinexformer:build_retinexformer",
    "checkpoint": ".checkpoint:load_weights",
}
CHECKPOINT = "checkpoint"  # also the name of restorers from other projects' files
HEADER = "restorer"  # the entry of a file's metadata that holds format, name and settings
LONGEST_REASON = 600  # characters of another library's message
FORMAT = "restoration-for-recognition/2"


class RestorerError(ValueError):
    """A restorer cannot be built, read or run; the text names the setting or the file."""


def build_restorer(name: str, settings: Mapping[str, Any]) -> "Restorer":
    """An untrained restorer, or for the name "checkpoint" the restorer in a file.

    Args:
        name: a key of RESTORERS.
        settings: the fields of the class `Settings` in the restorer's module.

    Raises:
        RestorerError: an unknown restorer, invalid settings, or a file that cannot be read.
    """
    if name not in RESTORERS:
        raise RestorerError(f"no restorer {name!r}; there are: {', '.join(RESTORERS)}")
    module = _import(name)
    try:
        checked = module.Settings.model_validate(dict(settings))
    except ValidationError as error:
        raise RestorerError(f"restorer {name!r}: {first_mistake(error, module.Settings)}") from error
    restorer: Restorer = getattr(module, RESTORERS[name].partition(":")[2])(checked)
    return restorer


def save_restorer(path: Path, restorer: "Restorer") -> None:
    """Write weights and settings into one .safetensors file."""
    from safetensors.torch import save_file

    about = {"format": FORMAT, "name": restorer.name, "settings": restorer.settings}
    # Cloned: some architectures have the same tensor under two names, which this format does not allow.
    state = {key: value.detach().cpu().contiguous().clone() for key, value in restorer.network.state_dict().items()}
    # A single entry: the order of several varies, and the same restorer must give the same bytes.
    save_file(state, path, metadata={HEADER: json.dumps(about, sort_keys=True)})


def load_restorer(path: str | Path) -> "Restorer":
    """The restorer in a file of `save_restorer`, or in any checkpoint that spandrel reads; in eval mode.

    Raises:
        RestorerError: the file is missing, broken, holds more than weights, is of an architecture unknown to
            spandrel, or of one that changes the image size.
    """
    path = Path(path)
    if not path.is_file():
        raise RestorerError(f"{path}: no such restorer checkpoint")
    header = _header(path) if path.suffix == ".safetensors" else {}
    if header.get("format") != FORMAT or header.get("name") == CHECKPOINT:
        restorer: Restorer = _import(CHECKPOINT).read_checkpoint(path)
        return restorer.eval()
    return _load_ours(path, header).eval()


def _import(name: str) -> Any:
    """A restorer's module. It is imported by name, so that other restorers do not depend on its code."""
    return import_module(RESTORERS[name].partition(":")[0], __package__)


def _header(path: Path) -> dict[str, Any]:
    """The header that `save_restorer` wrote; empty for another project's file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            return header if isinstance(header, dict) else {}
    except (json.JSONDecodeError, RecursionError):
        return {}
    except (OSError, SafetensorError) as error:
        raise RestorerError(f"{path}: not a readable safetensors file ({error})") from error


def _load_ours(path: Path, header: Mapping[str, Any]) -> "Restorer":
    from safetensors import safe_open

    try:
        restorer = build_restorer(header["name"], header["settings"])
        with safe_open(path, "pt") as file:
            restorer.network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except Exception as error:  # the settings in a file can be anything, and networks are built from them
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise RestorerError(f"{path}: weights and settings do not fit ({reason})") from error
    return restorer
