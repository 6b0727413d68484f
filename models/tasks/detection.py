"""Object detection with any YOLO detector that ultralytics can build."""

import numpy as np

from .contract import Image, LabelledSplit
from .predictions import DetectionPrediction
from .yolo import YoloTask
from .yolo_training import YoloSettings


class Settings(YoloSettings):
    """Settings of the task detection."""

    model: str = "yolo11n.yaml"


class Detection(YoloTask[DetectionPrediction]):
    """A YOLO detector that predicts boxes."""

    name = "detection"
    labels = "detection"
    settings_type = Settings
    kind = "detect"
    label_folder = "labels"

    @classmethod
    def label_lines(cls, split: LabelledSplit, image_id: str) -> str:
        return (split.folder / cls.label_folder / f"{image_id}.txt").read_text()

    def predict(self, image: Image) -> DetectionPrediction:
        result, classes = self.run_predictor(image)
        boxes = result.boxes.cpu().numpy()
        return DetectionPrediction(boxes.xyxy.astype(np.float64), boxes.conf.astype(np.float64), classes)
