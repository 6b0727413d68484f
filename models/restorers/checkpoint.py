"""A restorer from a file: the start of a training, or used as it is. Files of other projects are read by spandrel."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from ..settings import Settings as BaseSettings
from . import CHECKPOINT, RestorerError, load_restorer
from .contract import Restorer

PICKLES = (".pth", ".pt", ".ckpt", ".bin")
SMALLEST_TRIAL = 32  # pixels
LONGEST_REASON = 300  # characters of another library's message


class Settings(BaseSettings):
    """A checkpoint.

    Attributes:
        weights: a .safetensors file of this project, or any checkpoint that spandrel reads; null while none is chosen.
    """

    weights: str | None


def load_weights(settings: Settings) -> Restorer:
    """The restorer in the file, with the name and the settings in the file.

    Raises:
        RestorerError: no file is chosen, or it cannot be read.
    """
    if settings.weights is None:
        raise RestorerError("restorer 'checkpoint': weights must name a file")
    return load_restorer(settings.weights)


def read_checkpoint(path: Path) -> Restorer:
    """A restorer from another project's checkpoint, of any architecture that spandrel knows.

    spandrel recognises the architecture by the names and shapes of the weights. Only weights are read from a pickle:
    a file that holds code is an error, and nothing in it runs.

    Args:
        path: .safetensors, or a pickle: .pth, .pt, .ckpt, .bin.

    Raises:
        RestorerError: the file is broken, holds more than weights, or is of an unknown architecture or of one that
            does not map RGB images to RGB images of the same size.
    """
    state = _read_weights(path)
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict

    try:
        model = ModelLoader(device="cpu").load_from_state_dict(canonicalize_state_dict(state))
    except UnsupportedModelError as error:
        raise RestorerError(f"{path}: spandrel cannot read this checkpoint (no architecture it knows)") from error
    except Exception as error:  # the architectures raise many kinds of errors for unknown content
        raise RestorerError(f"{path}: spandrel cannot read this checkpoint ({_reason(error)})") from error
    architecture = model.architecture.name
    channels = (model.input_channels, getattr(model, "output_channels", 3))
    if not isinstance(model, ImageModelDescriptor) or model.scale != 1 or channels != (3, 3):
        raise RestorerError(
            f"{path}: {architecture} is not a restorer from RGB to RGB of the same size (scale {model.scale}, "
            f"{channels[0]} to {channels[1]} channels)"
        )
    network = _SpandrelNetwork(model)
    try:
        network.try_batches()
    except Exception as error:  # as above
        raise RestorerError(f"{path}: {architecture} is read, but does not run ({_reason(error)})") from error
    return Restorer(network, CHECKPOINT, {"architecture": architecture}, model.size_requirements.multiple_of)


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        elif path.suffix in PICKLES:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise RestorerError(f"{path}: expected a .safetensors, {', '.join(PICKLES)} file")
    except RestorerError:
        raise
    except Exception as error:  # a file of any content
        raise RestorerError(
            f"{path}: not readable as weights alone; nothing in it was run. Convert it to .safetensors "
            f"({_reason(error)})"
        ) from error
    if not isinstance(state, dict):
        raise RestorerError(f"{path}: expected weights by name, found {type(state).__name__}")
    return state


def _reason(error: Exception) -> str:
    """Another library's message in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


class _SpandrelNetwork(nn.Module):
    """A network that spandrel read, called as its architecture needs it.

    Attributes:
        module: the network. spandrel removes the prefix `module.`, so that it can read files of `save_restorer`, too.
        minimum: smallest side of an image in pixels; smaller images are extended.
        square: whether the network takes square images only.
        takes_batches: whether the network takes several images at once.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.module: nn.Module = descriptor.model
        self._call = descriptor._call_fn
        sizes = descriptor.size_requirements
        self._multiple: int = sizes.multiple_of
        self.minimum = self._round_up(sizes.minimum)
        self.square: bool = sizes.square
        self.takes_batches = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        least = max(self.minimum, height, width) if self.square else self.minimum
        padding = (0, max(least - width, 0), 0, max(least - height, 0))
        batches = [images] if self.takes_batches else images.split(1)
        restored = [self._call(self.module, F.pad(batch, padding, mode="replicate")) for batch in batches]
        return torch.cat(restored)[..., :height, :width]

    def try_batches(self) -> None:
        """Set `takes_batches` after a run with one image and with two: spandrel guarantees one image at a time only.

        Raises:
            Exception: whatever the network raises with one image.
        """
        size = self._round_up(max(self.minimum, SMALLEST_TRIAL))
        images = torch.zeros(2, 3, size, size)
        self.module.eval()
        with torch.no_grad():  # not inference mode: what a network caches is used in training too
            if self(images[:1]).shape != images[:1].shape:
                raise RuntimeError("the size of its output is not that of its input")
            try:
                self.takes_batches = self(images).shape == images.shape
            except RuntimeError:
                self.takes_batches = False

    def _round_up(self, size: int) -> int:
        return -(-size // self._multiple) * self._multiple
