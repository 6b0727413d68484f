"""Instance segmentation with any YOLO network with a mask head that ultralytics can build."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .contract import LabelledSplit
from .predictions import InstancePrediction, decode_mask, encode_masks
from .yolo import YoloTask
from .yolo_library import merge_polygons
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
    most_boxes = 300  # each has a mask of the image's size, which takes memory

    @classmethod
    def label_lines(cls, split: LabelledSplit, image_id: str) -> str:
        """The polygons of an image's objects. Crowds are left out."""
        height, width = split.image(image_id).shape[:2]
        lines = []
        for instance in split.instances(image_id):
            polygon = outline(decode_mask(instance.counts, (height, width)))
            if not instance.crowd and len(polygon):
                numbers = (polygon / [width, height]).ravel()
                lines.append(f"{instance.category} {' '.join(f'{number:.6f}' for number in numbers)}\n")
        return "".join(lines)

    def read_result(self, result: Any) -> InstancePrediction:
        height, width = result.orig_shape
        masks = np.zeros((0, height, width), np.uint8) if result.masks is None else result.masks.data.byte().numpy()
        scores = result.boxes.conf.numpy().astype(np.float64)
        return InstancePrediction((height, width), encode_masks(masks), scores, self.classes_of(result))


def outline(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(P, 2) x and y in pixels of one polygon around all parts of a mask (H, W) of 0 and 1; holes are filled."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [contour.reshape(-1, 2) for contour in contours]
    parts = [part if len(part) >= 3 else _bounding_corners(part) for part in parts]
    if not parts:
        return np.zeros((0, 2))
    return merge_polygons(parts) if len(parts) > 1 else parts[0].astype(np.float64)


def _bounding_corners(part: NDArray[Any]) -> NDArray[Any]:
    """The corners (4, 2) of a part that is a point or a line and so has no polygon."""
    x, y, width, height = cv2.boundingRect(part)
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
