"""The term `lpips`: learned perceptual image patch similarity, as torchmetrics implements it.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018. The linear heads
come with torchmetrics; the backbone's ImageNet weights do not, and are never downloaded here.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from .term import Frozen, LossError, LpipsSettings, Term

# The files that torchvision looks for, by backbone.
BACKBONE_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class LpipsTerm(Term):
    """LPIPS of restored against clean images, the mean over the batch."""

    def __init__(self, network: nn.Module, settings: LpipsSettings) -> None:
        super().__init__(settings, {"lpips": settings.raw_weight})
        self.network = network.eval().requires_grad_(False)

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"lpips": self.network(restored, clean, normalize=True).mean()}


def build(name: str, settings: LpipsSettings, frozen: Frozen, pixel_kind: str) -> LpipsTerm:
    """Build the term from cached backbone weights.

    Raises:
        LossError: an unknown backbone, or its weights are not in torch's cache.
    """
    if settings.backbone not in BACKBONE_FILES:
        raise LossError(f"lpips: backbone {settings.backbone!r} is unknown; there are {', '.join(BACKBONE_FILES)}")
    path = backbone_file(settings.backbone)
    if not path.exists():
        raise LossError(
            f"lpips: the backbone's weights are not at {path}; put torchvision's {path.name} there "
            "(or set TORCH_HOME to the folder that has hub/checkpoints), or choose another objective"
        )
    return LpipsTerm(load_network(settings.backbone), settings)


def backbone_file(backbone: str) -> Path:
    """Where torch's cache has, or would have, a backbone's weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILES[backbone]


def load_network(backbone: str) -> nn.Module:
    """The frozen network (images (N,3,H,W), others, normalize=True for [0,1]) -> LPIPS; its weights must be cached.

    Raises:
        LossError: the file of the weights is damaged, or holds more than weights: nothing in it was run.
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
