"""YOLO networks for semantic segmentation, with the interface of those of segmentation-models-pytorch.

They are trained by our own loop with the same loss as the others, so that only the architecture differs.
"""

from typing import Any

import torch
import torch.nn.functional as F

from models.tasks.yolo_library import check_model, library


class SemanticYolo(torch.nn.Module):
    """A semantic YOLO from one of the library's YAML files, with random weights.

    Args:
        model: a file's name, such as yolo26n-sem.yaml, or a path.
        classes: number of classes.

    Raises:
        models.tasks.TaskError: there is no such file.
    """

    def __init__(self, model: str, classes: int) -> None:
        super().__init__()
        check_model("train_task.segmentation.architecture", model, "semantic")
        library()
        from ultralytics.nn.tasks import SemanticSegmentationModel

        self.yolo: Any = SemanticSegmentationModel(model, nc=classes, verbose=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised images, sides multiples of 32, to (N, classes, H, W) logits."""
        logits: Any = self.yolo(images)
        if isinstance(logits, tuple):  # in training, with those of an auxiliary head that we leave out
            logits = logits[0]
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)

    def encoder(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The backbone's last map at each scale, from the image itself to the coarsest."""
        maps = [images]
        for layer in self.yolo.model[: len(self.yolo.yaml["backbone"])]:
            seen = layer(maps[-1])
            if seen.shape[-1] == maps[-1].shape[-1]:
                maps.pop()
            maps.append(seen)
        return maps
