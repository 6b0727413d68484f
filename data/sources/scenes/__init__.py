"""The embedded data source: streets drawn from a seed, with exact boxes, masks and metric depth.

A scene is built from flat faces at metric positions and seen through a pin-hole camera, so that the depth fits the
picture and fog can be physical. Nothing is downloaded; the only photographs are textures inside scikit-image's wheel.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...samples import Fault, Sample
from .composer import DETECTION, SEGMENTATION, Scene, compose

SPLITS = ("train", "val", "test")
SMALLEST = 64  # pixels


class Scenes:
    """Drawn streets. Labels:

    - boxes surround the *visible* pixels of a car, person or sign plate, cut at the picture's edge; a thing with
      fewer than 16 visible pixels, or a box under 3 pixels wide or high, has none;
    - the mask names the surface at every pixel's centre; sign posts, lamps, bins and other furniture are 255;
    - the depth is Z along the optical axis in metres; sky and whatever is farther is 255.99.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        """`settings`: width and height (pixels, 256 x 192), train, val and test (counts). `root` is not used.

        Raises:
            ValueError: a side under 64 pixels.
        """
        self.name = "scenes"
        self.classes = {"detection": list(DETECTION), "segmentation": list(SEGMENTATION)}
        self.width, self.height = int(settings.get("width", 256)), int(settings.get("height", 192))
        self.counts = {split: int(settings.get(split, 0)) for split in SPLITS}
        self.seed = seed
        for key, value in (("width", self.width), ("height", self.height)):
            if value < SMALLEST:
                raise ValueError(f"scenes: {key} is {value}; expected at least {SMALLEST} pixels")
        self.description: dict[str, Any] = {
            "source": "scenes",
            "seed": seed,
            "width": self.width,
            "height": self.height,
            "kind": "procedural street scenes",
        }

    def split_ids(self) -> dict[str, list[str]]:
        """Ids "00000", "00001", ... for every split with at least one scene."""
        return {split: [f"{index:05d}" for index in range(count)] for split, count in self.counts.items() if count}

    def faults(self) -> list[Fault]:
        """None: nothing is read."""
        return []

    def part(self, split: str, ids: Sequence[str]) -> "Scenes":
        """The same source: it holds nothing but numbers."""
        return self

    def sample(self, split: str, id: str) -> Sample:
        """Draw the scene of a split and an id; it depends on the seed, these two and the size alone."""
        scene = self.scene(split, id)
        return Sample(id, split, scene.image, scene.boxes, scene.mask, scene.depth)

    def scene(self, split: str, id: str) -> Scene:
        """As `sample`, with the instance map."""
        code = int.from_bytes(hashlib.sha256(split.encode()).digest()[:4], "big")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, code, int(id)]))
        return compose(rng, self.width, self.height)
