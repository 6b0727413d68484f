"""Pictures inside the page: JPEG in data URIs, made smaller until they fit. Not a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.images import read_image
from pipeline.reporting.html.figures import data_uri
from pipeline.reporting.pictures import Image

BUDGET = 2_500_000  # bytes of JPEG in all sliders
EXTREMES_BUDGET = 1_500_000  # bytes of JPEG in all grids of extreme images
EXTREMES_WIDTH = 900  # pixels
EXTREMES = ("best-", "worst-")  # what the names of those grids begin with
WIDTHS = (480, 360, 240, 160)  # pixels, tried in turn
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Slider:
    """One image in all its versions: name of the version to data URI; two of them are laid over each other."""

    degradation: str
    task: str
    image: str
    width: int
    height: int
    versions: dict[str, str]
    left: str
    right: str


class Sliders:
    """Gathers the sliders of a report within a number of bytes.

    Args:
        groups: degradations times tasks: each may use its share of the budget.
        budget: bytes.
    """

    def __init__(self, groups: int, budget: int = BUDGET) -> None:
        self.share = budget // max(1, groups)
        self.all: list[Slider] = []

    def add(self, degradation: str, task: str, ids: Sequence[str], columns: Mapping[str, Sequence[Image]]) -> None:
        """Add the images of one degradation and task: as wide as fits, and if even the narrowest don't, fewer.

        Args:
            degradation: its name.
            task: its name.
            ids: names of the images.
            columns: version (`degraded`, an objective, ...) to its images (H, W, 3), in the order of `ids`; the
                first is what the others are compared with.
        """
        tries = [(len(ids), width) for width in WIDTHS] + [(count, WIDTHS[-1]) for count in range(len(ids) - 1, 0, -1)]
        for count, width in tries:
            coded = {name: [_jpeg(image, width) for image in images[:count]] for name, images in columns.items()}
            if sum(len(one) for images in coded.values() for one in images) <= self.share:
                break
        left, right = list(columns)[:2]
        for place in range(count):
            height, own_width = columns[left][place].shape[:2]
            versions = {name: data_uri("image/jpeg", images[place]) for name, images in coded.items()}
            self.all.append(Slider(degradation, task, ids[place], own_width, height, versions, left, right))


@dataclass(frozen=True)
class Grid:
    """A whole grid of images."""

    name: str
    title: str
    uri: str


def extremes(folder: Path, budget: int = EXTREMES_BUDGET) -> list[Grid]:
    """The grids of the images that gained and lost most, best and worst side by side, as many as fit the budget."""
    found = []
    paths = [path for path in folder.glob("*.png") if path.name.startswith(EXTREMES)]
    for path in sorted(paths, key=lambda path: path.stem.partition("-")[::-1]):
        coded = _jpeg(read_image(path), EXTREMES_WIDTH)
        if len(coded) <= budget:
            budget -= len(coded)
            rank, _, where = path.stem.partition("-")
            title = f"{where}: the images that {'gained' if rank == 'best' else 'lost'} most"
            found.append(Grid(path.name, title, data_uri("image/jpeg", coded)))
    return found


def _jpeg(image: Image, width: int) -> bytes:
    height = round(image.shape[0] * width / image.shape[1])
    if width < image.shape[1]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
