"""How many boxes a YOLO network gives: COCO counts 100 of each class in an image, not 100 of all classes."""

from collections import Counter

import numpy as np
import pytest
import torch

from models.tasks.detection import Detection
from models.tasks.yolo_library import library

CLASSES = ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore")
def test_a_hundred_boxes_of_each_class_are_kept() -> None:
    library()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    network = DetectionModel("yolo11n.yaml", nc=len(CLASSES), verbose=False).eval()
    for branch in network.model[-1].cv3:  # class scores that differ from place to place
        torch.nn.init.normal_(branch[-1].weight, std=1.0)
        torch.nn.init.zeros_(branch[-1].bias)
    task = Detection(network, CLASSES, {"image_size": 640}, torch.device("cpu"))
    prediction = task.predict(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8))
    counts = Counter(prediction.classes.tolist())
    assert len(prediction.scores) == len(prediction.boxes) == sum(counts.values()) > 100
    assert max(counts.values()) == 100
    assert (np.diff(prediction.scores) <= 0).all()
