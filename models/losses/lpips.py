"""The loss `lpips`: learned perceptual image patch similarity, as torchmetrics implements it.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018. torchmetrics has the
linear heads. The backbone's ImageNet weights come from a file or from torch's cache; they are never downloaded.
"""

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..state_dicts import WeightsError, match_names, read_state_dict
from . import LossError
from .term import LossInputs, Term, TermSettings

# The files that torchvision looks for, by backbone.
BACKBONE_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}

SLICE = re.compile(r"^slices?\.?\d+\.")  # torchmetrics cuts backbones into slices


class Settings(TermSettings):
    """Which backbone, and the raw weight for [0,1] images.

    Attributes:
        backbone: AlexNet, VGG-16 or SqueezeNet 1.1.
        weights: a file with the backbone's ImageNet weights under torchvision's names; None: torch's cache has them.
        raw_weight: for [0,1] images.
    """

    raw_weight: float = 0.1
    backbone: Literal["alex", "vgg", "squeeze"] = "alex"
    weights: str | None = None

    @property
    def files(self) -> list[Path]:
        """The files that a training depends on."""
        return [] if self.weights is None else [Path(self.weights)]


class Lpips(Term):
    """LPIPS of restored against clean images, the mean over the batch.

    Raises:
        LossError: the backbone's weights are not in torch's cache, or cannot be read.
    """

    settings: Settings

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        self.network = load_network(settings.backbone, settings.weights)

    @classmethod
    def check(cls, settings: Settings) -> None:
        load_network(settings.backbone, settings.weights)

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the only component."""
        return {"lpips": self.settings.raw_weight}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The component `lpips`."""
        return {"lpips": self.network(restored, clean, normalize=True).mean()}


def backbone_file(backbone: str) -> Path:
    """The path of a backbone's weights in torch's cache, whether or not they exist."""
    return Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILES[backbone]


def load_network(backbone: str, weights: str | None = None) -> nn.Module:
    """The frozen network: two batches (N,3,H,W), in [0,1] with `normalize=True`, to LPIPS.

    Args:
        backbone: a key of BACKBONE_FILES.
        weights: the file of the backbone's weights; None: the one in torch's cache.

    Raises:
        LossError: the file is missing or damaged, holds more than weights, or those of another network. Nothing in it
            was run.
    """
    path = backbone_file(backbone) if weights is None else Path(weights)
    if weights is None and not path.exists():
        raise LossError(
            f"lpips: the backbone's weights are not at {path}. Name their file in losses.lpips.weights, or put "
            f"torchvision's {path.name} there (or set TORCH_HOME to the folder that has hub/checkpoints), or choose "
            "another objective."
        )
    try:
        state = read_state_dict(path)
    except WeightsError as error:
        raise LossError(f"lpips: {error}") from error
    from torchmetrics.functional.image.lpips import _LPIPS

    network: Any = _LPIPS(pretrained=True, net=backbone, pnet_rand=True)  # type: ignore[arg-type]
    wanted = {SLICE.sub("", name): name for name in network.net.state_dict()}
    features = match_names(state, wanted)
    try:
        network.net.load_state_dict({wanted[name]: value for name, value in features.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise LossError(f"lpips: {path}: not the weights of the backbone {backbone!r} ({reason})") from error
    frozen: nn.Module = network.eval().requires_grad_(False)
    return frozen
