"""The loss `lpips`: learned perceptual image patch similarity, as torchmetrics implements it.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018. torchmetrics has the
linear heads. The backbone's ImageNet weights must be in torch's cache; they are never downloaded.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from . import LossError
from .term import LossInputs, Term, TermSettings

# The files that torchvision looks for, by backbone.
BACKBONE_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class Settings(TermSettings):
    """Which backbone, and the raw weight.

    Attributes:
        raw_weight: for [0,1] images.
        backbone: network whose published weights must be in torch's cache.
    """

    raw_weight: float = 0.1
    backbone: Literal["alex", "vgg", "squeeze"] = "alex"


class Lpips(Term):
    """LPIPS of restored against clean images, the mean over the batch.

    Raises:
        LossError: the backbone's weights are not in torch's cache, or cannot be read.
    """

    settings: Settings

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        path = backbone_file(settings.backbone)
        if not path.exists():
            raise LossError(
                f"lpips: the backbone's weights are not at {path}. Put torchvision's {path.name} there "
                "(or set TORCH_HOME to the folder that has hub/checkpoints), or choose another objective."
            )
        self.network = load_network(settings.backbone)

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


def load_network(backbone: str) -> nn.Module:
    """The frozen network: two batches (N,3,H,W), in [0,1] with `normalize=True`, to LPIPS.

    Raises:
        LossError: the file of the backbone's weights is damaged, or holds more than weights. Nothing in it was run.
    """
    path = backbone_file(backbone)
    try:  # torchvision would unpickle whatever lies there
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of any content
        reason = (str(error).split("\n")[0] or type(error).__name__)[:200]
        raise LossError(f"lpips: {path}: not readable as weights alone; nothing in it was run ({reason})") from error
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type=backbone).net  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)
