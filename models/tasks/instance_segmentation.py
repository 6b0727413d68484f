"""Instance segmentation with any YOLO network with a mask head that ultralytics can build."""

from pathlib import Path

import numpy as np

from .contract import Image, LabelledSplit
from .predictions import InstancePrediction, decode_mask, encode_masks
from .yolo import YoloTask
from .yolo_dataset import outline, write_yolo_dataset
from .yolo_training import YoloSettings


class Settings(YoloSettings):
    """Settings of the task instance-segmentation."""

    model: str = "yolo11n-seg.yaml"


class InstanceSegmentation(YoloTask[InstancePrediction]):
    """A YOLO network that predicts objects with masks."""

    name = "instance-segmentation"
    labels = "instance-segmentation"
    settings_type = Settings
    kind = "segment"
    label_folder = "instances"

    @classmethod
    def write_dataset(cls, split: LabelledSplit, classes: list[str], folder: Path) -> Path:
        return write_yolo_dataset(split, classes, folder, lambda image_id: _label_lines(split, image_id))

    def predict(self, image: Image) -> InstancePrediction:
        result, classes = self.run_predictor(image)
        height, width = image.shape[:2]
        if result.masks is None:
            masks = np.zeros((0, height, width), np.uint8)
        else:
            masks = result.masks.data.byte().cpu().numpy()
        scores = result.boxes.conf.cpu().numpy().astype(np.float64)
        return InstancePrediction((height, width), encode_masks(masks), scores, classes)


def _label_lines(split: LabelledSplit, image_id: str) -> str:
    """The polygons of an image's objects as ultralytics' label lines; crowds are left out."""
    height, width = split.image(image_id).shape[:2]
    lines = []
    for instance in split.instances(image_id):
        polygon = outline(decode_mask(instance.counts, (height, width)))
        if not instance.crowd and len(polygon):
            numbers = (polygon / [width, height]).ravel()
            lines.append(f"{instance.category} {' '.join(f'{number:.6f}' for number in numbers)}\n")
    return "".join(lines)
