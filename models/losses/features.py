"""The loss `features`: the difference between features of the restored and the clean image in an ImageNet encoder.

A control for losses with a diffusion prior or a task network: does any pretrained network do? The features of a
classifier are the perceptual loss of Johnson et al., "Perceptual losses for real-time style transfer and
super-resolution", ECCV 2016; the distance here is that of the loss `task`.
"""

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from . import LossError
from .task import TaskFeatures
from .term import FrozenModule, LossInputs, TermSettings

UNTRAINED = "untrained"
DEPTH = 5  # an encoder has this many feature maps; each has half the sides of the one before
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, which torchvision and timm train with
MISSING = 3  # missing weights that an error names
Layer = Annotated[int, Field(ge=1, le=DEPTH)]


class Settings(TermSettings):
    """Whose features, and the raw weight.

    Attributes:
        encoder: a name of segmentation-models-pytorch, such as mobilenet_v2, or tu-NAME for a network of timm.
        weights: a .safetensors file with the names of torchvision or timm; "untrained": random weights, a control.
        layers: which feature maps, from 1 (fine) to 5 (coarse).
        raw_weight: for [0,1] images.
    """

    encoder: str = "mobilenet_v2"
    weights: str | None = None
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = (2, 3, 4)
    raw_weight: float = 0.1

    @field_validator("weights")
    @classmethod
    def _exist(cls, weights: str | None) -> str | None:
        if weights not in (None, UNTRAINED) and not Path(str(weights)).is_file():
            raise ValueError(f"there is no file {weights}. Put a .safetensors file there, or write {UNTRAINED}.")
        return weights

    @property
    def files(self) -> list[Path]:
        """The files that the loss reads."""
        return [] if self.weights in (None, UNTRAINED) else [Path(str(self.weights))]


class Encoder(FrozenModule):
    """A frozen encoder: images (N,3,H,W) in [0,1] to the chosen feature maps (N,c,h,w).

    Raises:
        LossError: no weights are named, or they cannot be read or do not fit the encoder.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        if settings.weights is None:
            raise LossError(f"features: weights: name a .safetensors file with an encoder's weights, or {UNTRAINED}")
        self.layers = settings.layers
        self.network = build_encoder(settings.encoder)
        if settings.weights != UNTRAINED:
            load_weights(self.network, Path(settings.weights), settings.encoder)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.train()
        self.requires_grad_()

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        multiple = 2**DEPTH
        padded = F.pad(images.float(), (0, -width % multiple, 0, -height % multiple), mode="replicate")
        maps = self.network((padded - self.mean) / self.std)
        return [maps[layer] for layer in self.layers]


class EncoderFeatures(TaskFeatures):
    """The component `features`: the mean over layers of the relative mean squared difference."""

    component = "features"
    needs_task = False
    settings: Settings  # type: ignore[assignment]

    def _network(self, inputs: LossInputs) -> Encoder:
        return Encoder(self.settings)


def build_encoder(name: str) -> nn.Module:
    """An encoder of segmentation-models-pytorch with random weights, which do not change the global random state.

    Raises:
        LossError: there is none of this name.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network: nn.Module = get_encoder(name, in_channels=3, depth=DEPTH, weights=None)
        except (KeyError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise LossError(f"features: encoder: {name!r} is no encoder: {reason}") from error
    return network


def load_weights(network: nn.Module, file: Path, name: str) -> None:
    """Load an encoder's weights, with the names of torchvision or timm. Those of its classifier are ignored.

    Raises:
        LossError: the file cannot be read, or lacks a weight of the encoder.
    """
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise LossError(f"features: weights: {file}: not readable as safetensors ({error})") from error
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    for prefix in ("", "model."):  # that of a network of timm in segmentation-models-pytorch
        found = {prefix + key: value for key, value in stored.items()}
        missing = [key for key in wanted if key not in found or found[key].shape != wanted[key].shape]
        if not missing:
            network.load_state_dict({key: found[key] for key in wanted}, strict=False)
            return
    raise LossError(f"features: weights: {file}: not those of {name}; it lacks {', '.join(missing[:MISSING])}")
