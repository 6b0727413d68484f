"""Restorers: networks that turn a degraded image into a restored one of the same size.

All obey one contract: (N, 3, H, W) in [0, 1] in and out, any H and W, the same result alone as in a batch.
While training, the output is not clipped, so that a gradient reaches every pixel; in eval mode it is.

To add one, write a function that builds the network from its settings, returns it with the number that
its input sizes must be a multiple of, and add a line to RESTORERS.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from models.restorers.nafnet import build_nafnet

RESTORERS: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "nafnet": build_nafnet,
}
FORMAT = "restoration-for-recognition/1"


class RestorerError(ValueError):
    """A restorer that cannot be built or read; the text names the setting or the file."""


class Restorer(nn.Module):
    """A restoration network behind the common contract.

    Args:
        network: maps (N, 3, H, W) to the same shape for H and W that are multiples of `multiple`.
        name: its key in RESTORERS, or the architecture of a foreign checkpoint.
        settings: what it was built from.
        multiple: other sizes are reflected up to the next multiple and cut back.
    """

    def __init__(self, network: nn.Module, name: str, settings: Mapping[str, Any], multiple: int) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.settings = dict(settings)
        self.multiple = multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Restore (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: not a batch of three-channel images.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Expected images of shape (N, 3, H, W), but got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        restored = self.network(_pad(images, self.multiple))[..., :height, :width]
        return restored if self.training else restored.clamp(0, 1)


def build_restorer(name: str, settings: Mapping[str, Any]) -> Restorer:
    """Build an untrained restorer.

    Raises:
        RestorerError: no such restorer, or settings it does not take.
    """
    if name not in RESTORERS:
        raise RestorerError(f"no restorer {name!r}; there are: {', '.join(RESTORERS)}")
    try:
        network, multiple = RESTORERS[name](**settings)
    except TypeError as error:
        raise RestorerError(f"restorer {name!r}: {error}") from error
    return Restorer(network, name, settings, multiple)


def save_restorer(path: Path, restorer: Restorer) -> None:
    """Write weights and settings into one .safetensors file."""
    header = {"format": FORMAT, "name": restorer.name, "settings": json.dumps(restorer.settings, sort_keys=True)}
    state = {key: value.detach().cpu().contiguous() for key, value in restorer.network.state_dict().items()}
    save_file(state, path, metadata=header)


def load_restorer(path: str | Path) -> Restorer:
    """Read a restorer: a .safetensors file of ours, or any checkpoint that spandrel reads. In eval mode.

    Raises:
        RestorerError: the file is missing, broken, of an architecture unknown to spandrel, or one that
            changes the image size.
    """
    path = Path(path)
    if not path.is_file():
        raise RestorerError(f"{path}: no such restorer checkpoint")
    header = _header(path) if path.suffix == ".safetensors" else {}
    restorer = _load_ours(path, header) if header.get("format") == FORMAT else _load_foreign(path)
    return restorer.eval()


def _header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise RestorerError(f"{path}: not a readable safetensors file ({error})") from error


def _load_ours(path: Path, header: Mapping[str, str]) -> Restorer:
    restorer = build_restorer(header["name"], json.loads(header["settings"]))
    with safe_open(path, "pt") as file:
        restorer.network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return restorer


def _load_foreign(path: Path) -> Restorer:
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        model = ModelLoader(device="cpu").load_from_file(path)
    except (UnsupportedModelError, UnpicklingError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise RestorerError(f"{path}: spandrel cannot read this checkpoint ({error})") from error
    if not isinstance(model, ImageModelDescriptor) or model.scale != 1 or model.input_channels != 3:
        raise RestorerError(f"{path}: {model.architecture.name} is not a restorer from RGB to RGB of the same size")
    if model.size_requirements.square:
        raise RestorerError(
            f"{path}: {model.architecture.name} takes square images only; a restorer must take any size"
        )
    return Restorer(_Foreign(model), model.architecture.name, {}, model.size_requirements.multiple_of)


class _Foreign(nn.Module):
    """A network that spandrel read, with the shape and range of its output set right for its architecture."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        self._call = descriptor._call_fn
        self._minimum: int = descriptor.size_requirements.minimum

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        padding = (0, max(self._minimum - width, 0), 0, max(self._minimum - height, 0))
        restored: torch.Tensor = self._call(self.model, F.pad(images, padding, mode="replicate"))
        return restored[..., :height, :width]


def _pad(images: torch.Tensor, multiple: int) -> torch.Tensor:
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    # Reflection needs more pixels than it adds; tiny images repeat their border instead.
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, bottom), mode=mode)
