"""At which size the prior sees the images."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from models.losses.settings import LossError

VIEWS = ("own", "resize", "multi-scale")


class Views:
    """Turns a pair of images into the pairs that the prior sees.

    own: the images as they are. resize: the shorter side becomes the one size in `sizes`. multi-scale: one pair
    for each size in `sizes`, and the loss is the mean over them. Resizing is bilinear with anti-aliasing, keeps
    the aspect ratio up to the prior's size multiple, and is differentiable.

    Raises:
        LossError: an unknown kind, or sizes that do not go with it.
    """

    def __init__(self, kind: str = "own", sizes: Sequence[int] = (64,)) -> None:
        if kind not in VIEWS:
            raise LossError(f"view {kind!r} is unknown; there are {', '.join(VIEWS)}")
        if kind != "own" and (not sizes or any(size < 1 for size in sizes)):
            raise LossError(f"view_sizes {tuple(sizes)}: expected at least one positive size")
        if kind == "resize" and len(sizes) != 1:
            raise LossError(f"view_sizes {tuple(sizes)}: view 'resize' takes one size; 'multi-scale' takes several")
        self.kind, self.sizes = kind, tuple(sizes)

    def __call__(self, restored: Tensor, clean: Tensor, multiple: int) -> list[tuple[Tensor, Tensor]]:
        """Pairs of (N,3,h,w) images in [0,1]; with own size the sides must be multiples of `multiple`."""
        if self.kind != "own":
            return [(_resize(restored, size, multiple), _resize(clean, size, multiple)) for size in self.sizes]
        if restored.shape[2] % multiple or restored.shape[3] % multiple:
            raise LossError(
                f"images of {restored.shape[2]}x{restored.shape[3]}: the prior needs sides that are multiples of "
                f"{multiple}; crop to such a size or use a resized view"
            )
        return [(restored, clean)]


def _resize(image: Tensor, size: int, multiple: int) -> Tensor:
    """The shorter side becomes `size`, rounded to the multiple; the other follows."""
    scale = size / min(image.shape[2:])
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[2:])
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
