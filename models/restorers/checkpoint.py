"""A restorer from a file: the start of a training, or used as it is. Files of other projects are read by spandrel."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings import Settings as BaseSettings
from ..state_dicts import WeightsError, match_names, read_state_dict, short_reason
from . import CHECKPOINT, RestorerError, load_restorer, save_restorer
from .aod_net import AodNet
from .contract import Restorer
from .iat import Iat
from .sci import Sci

SMALLEST_TRIAL = 32  # pixels
TOLERANCE = 1e-4  # of restored values in [0, 1]
# Networks that spandrel does not read. Their published weights are recognised by the names of the weights.
PUBLISHED: dict[str, type[nn.Module]] = {"AOD-Net": AodNet, "IAT": Iat, "SCI": Sci}


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


def try_restorer(path: Path) -> Restorer:
    """The restorer in a file, after a trial: saved and loaded again it restores the same, and as spandrel does.

    Raises:
        RestorerError: the file cannot be read, the restored image is not finite, or it is another one.
    """
    restorer = load_restorer(path)
    side = restorer.network.trial_side if isinstance(restorer.network, _SpandrelNetwork) else SMALLEST_TRIAL
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder, torch.no_grad():
        restored = restorer(images)
        if not torch.isfinite(restored).all():
            raise RestorerError(f"{path}: the restored image is not finite. Choose a file whose weights are intact")
        save_restorer(Path(folder, "restorer.safetensors"), restorer)
        others = {"after it is saved": load_restorer(Path(folder, "restorer.safetensors"))(images)}
        if isinstance(restorer.network, _SpandrelNetwork):
            others |= _restored_by_spandrel(path, images)
    for place, other in others.items():
        if other.shape != restored.shape or not torch.allclose(other, restored, atol=TOLERANCE):
            raise RestorerError(f"{path}: it restores another image {place} than here. Choose another file")
    return restorer


def _restored_by_spandrel(path: Path, images: Tensor) -> dict[str, Tensor]:
    """What spandrel alone makes of the images with this file; empty if it cannot read the file by itself."""
    from spandrel import ModelLoader

    with suppress(Exception):  # it raises many kinds of errors; this project may read more files
        return {"in spandrel": ModelLoader(device="cpu").load_from_file(path)(images).clamp(0, 1)}
    return {}


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
    try:
        state = read_state_dict(path)
    except WeightsError as error:
        raise RestorerError(str(error)) from error
    return _read_published(state) or _read_with_spandrel(path, state)


def _read_published(state: dict[str, Tensor]) -> Restorer | None:
    """The network of PUBLISHED that has these weights. Weights that only its training used are left out."""
    for architecture, network_class in PUBLISHED.items():
        network = network_class()
        expected = network.state_dict()
        weights = match_names(state, expected)
        if len(weights) == len(expected) and all(weights[name].shape == expected[name].shape for name in weights):
            network.load_state_dict(weights)
            return Restorer(network, CHECKPOINT, {"architecture": architecture}, multiple=1)
    return None


def _read_with_spandrel(path: Path, state: dict[str, Tensor]) -> Restorer:
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict

    try:
        model = ModelLoader(device="cpu").load_from_state_dict(canonicalize_state_dict(state))
    except UnsupportedModelError as error:
        raise RestorerError(
            f"{path}: spandrel cannot read this checkpoint (no architecture it knows), and it is none of "
            f"{', '.join(PUBLISHED)}. Choose another file"
        ) from error
    except Exception as error:  # the architectures raise many kinds of errors for unknown content
        raise RestorerError(f"{path}: spandrel cannot read this checkpoint ({short_reason(error)})") from error
    architecture = model.architecture.name
    channels = (model.input_channels, getattr(model, "output_channels", 3))
    if not isinstance(model, ImageModelDescriptor) or model.scale != 1 or channels != (3, 3):
        raise RestorerError(
            f"{path}: {architecture} is not a restorer from RGB to RGB of the same size (scale {model.scale}, "
            f"{channels[0]} to {channels[1]} channels). Choose another file"
        )
    network = _SpandrelNetwork(model)
    try:
        network.try_batches()
    except Exception as error:  # as above
        raise RestorerError(f"{path}: {architecture} is read, but does not run ({short_reason(error)})") from error
    return Restorer(network, CHECKPOINT, {"architecture": architecture}, model.size_requirements.multiple_of)


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
        images = torch.zeros(2, 3, self.trial_side, self.trial_side)
        self.module.eval()
        with torch.no_grad():  # not inference mode: what a network caches is used in training too
            if self(images[:1]).shape != images[:1].shape:
                raise RuntimeError("the size of its output is not that of its input")
            try:
                self.takes_batches = self(images).shape == images.shape
            except RuntimeError:
                self.takes_batches = False

    @property
    def trial_side(self) -> int:
        """Side of the smallest square image of a trial, which needs no padding."""
        return self._round_up(max(self.minimum, SMALLEST_TRIAL))

    def _round_up(self, size: int) -> int:
        return -(-size // self._multiple) * self._multiple
