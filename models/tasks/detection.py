"""Object detection with any YOLO detector that ultralytics can build."""

from functools import cached_property
from typing import Any

import numpy as np
import torch

from .contract import LabelledSplit
from .predictions import DetectionPrediction
from .yolo import YoloTask, pad
from .yolo_library import criterion
from .yolo_training import YoloSettings


class Settings(YoloSettings):
    """Settings of the task detection."""

    model: str = "yolo11n.yaml"


class Detection(YoloTask[DetectionPrediction]):
    """A YOLO detector that predicts boxes."""

    name = "detection"
    labels = "detection"
    has_training_loss = True
    settings_type = Settings
    kind = "detect"
    label_folder = "labels"

    @classmethod
    def label_lines(cls, split: LabelledSplit, image_id: str) -> str:
        return (split.folder / cls.label_folder / f"{image_id}.txt").read_text()

    def read_result(self, result: Any) -> DetectionPrediction:
        boxes = result.boxes.numpy()
        return DetectionPrediction(
            boxes.xyxy.astype(np.float64), boxes.conf.astype(np.float64), self.classes_of(result)
        )

    def training_loss(self, images: torch.Tensor, labels: list[torch.Tensor]) -> torch.Tensor:
        """The library's loss of boxes, classes and box distributions. See `Task.training_loss`."""
        padded = pad(images)
        height, width = (
            side / padded_side for side, padded_side in zip(images.shape[2:], padded.shape[2:], strict=True)
        )
        boxes = torch.cat(labels).to(images)  # (K,5) of all images
        owners = [torch.full((len(rows),), float(index)) for index, rows in enumerate(labels)]
        batch = {
            "batch_idx": torch.cat(owners).to(images),
            "cls": torch.tensor(self.outputs, device=images.device)[boxes[:, 0].long()].to(images),
            "bboxes": boxes[:, 1:] * boxes.new_tensor([width, height, width, height]),
        }
        components, _ = self._criterion(self.network(padded), batch)
        return components.sum() / len(images)

    @cached_property
    def _criterion(self) -> Any:
        return criterion(self.network)
