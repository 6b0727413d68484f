"""Restorers: networks that turn a degraded image into a restored one of the same size.

All obey one contract: (N, 3, H, W) in [0, 1] in and out, any H and W, the same result alone as in a batch.
While training, the output is not clipped, so that a gradient reaches every pixel; in eval mode it is.

To add one, write a module here, named as the restorer, with a function that builds the network from its settings
and returns it with the number that its input sizes must be a multiple of, and add a line to RESTORERS.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .contract import Restorer, RestorerError

__all__ = ["CHECKPOINT", "RESTORERS", "Restorer", "RestorerError", "build_restorer", "load_restorer", "save_restorer"]

RESTORERS = {
    "unet": ".unet:build_unet",
    "nafnet": ".nafnet:build_nafnet",
    "restormer": ".restormer:build_restormer",
    "retinexformer": ".retinexformer:build_retinexformer",
}
CHECKPOINT = "checkpoint"  # instead of a name of the table: the network that a file holds
HEADER = "restorer"  # the entry of a file's metadata that holds format, name and settings
LONGEST_REASON = 600  # characters of another library's message
FORMAT = "restoration-for-recognition/2"


def build_restorer(name: str, settings: Mapping[str, Any]) -> Restorer:
    """Build an untrained restorer.

    Raises:
        RestorerError: no such restorer, or settings it does not take.
    """
    if name not in RESTORERS:
        raise RestorerError(f"no restorer {name!r}; there are: {', '.join(RESTORERS)}")
    module, function = RESTORERS[name].split(":")
    try:
        network, multiple = getattr(import_module(module, __package__), function)(**settings)
    except TypeError as error:
        raise RestorerError(f"restorer {name!r}: {error}") from error
    return Restorer(network, name, settings, multiple)


def save_restorer(path: Path, restorer: Restorer) -> None:
    """Write weights and settings into one .safetensors file."""
    about = {"format": FORMAT, "name": restorer.name, "settings": restorer.settings}
    # Cloned, because some architectures use one tensor under two names, which this format does not.
    state = {key: value.detach().cpu().contiguous().clone() for key, value in restorer.network.state_dict().items()}
    # One entry, because several are written in any order, and the same restorer must give the same bytes.
    save_file(state, path, metadata={HEADER: json.dumps(about, sort_keys=True)})


def load_restorer(path: str | Path) -> Restorer:
    """Read a restorer: a .safetensors file of ours, or any checkpoint that spandrel reads. In eval mode.

    Raises:
        RestorerError: the file is missing, broken, holds more than weights, is of an architecture unknown to
            spandrel, or of one that changes the image size.
    """
    path = Path(path)
    if not path.is_file():
        raise RestorerError(f"{path}: no such restorer checkpoint")
    header = _header(path) if path.suffix == ".safetensors" else {}
    if header.get("format") != FORMAT or header.get("name") == CHECKPOINT:
        from .checkpoint import load_checkpoint

        return load_checkpoint(path, CHECKPOINT).eval()
    return _load_ours(path, header).eval()


def _header(path: Path) -> dict[str, Any]:
    """What a file of ours says about itself; nothing where it is another project's."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            return found if isinstance(found, dict) else {}
    except (json.JSONDecodeError, RecursionError):
        return {}
    except (OSError, SafetensorError) as error:
        raise RestorerError(f"{path}: not a readable safetensors file ({error})") from error


def _load_ours(path: Path, header: Mapping[str, Any]) -> Restorer:
    try:
        restorer = build_restorer(header["name"], header["settings"])
        with safe_open(path, "pt") as file:
            restorer.network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except Exception as error:  # the settings in a file are any text, and networks are built from them
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise RestorerError(f"{path}: weights and settings do not fit ({reason})") from error
    return restorer
