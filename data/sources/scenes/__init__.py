"""The embedded data source: streets drawn from a seed, with exact boxes, masks and metric depth.

A scene is built from flat faces at metric positions and seen through a pin-hole camera, so that the depth fits the
picture and fog can be physical. Nothing is downloaded; the only photographs are textures inside scikit-image's wheel.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...labels import DatasetError
from ...samples import Fault, Sample
from ...settings import Count, SettingsError
from ...settings import Settings as BaseSettings
from .composer import DETECTION, SEGMENTATION, Scene, compose

Side = Annotated[int, Field(ge=64)]  # pixels


class Settings(BaseSettings):
    """The section data.scenes: the size of the images, and how many each split has."""

    width: Side
    height: Side
    train: Count
    val: Count
    test: Count


class Scenes:
    """Drawn streets. Labels:

    - boxes surround the *visible* pixels of a car, person or sign plate, cut at the picture's edge; a thing with
      fewer than 16 visible pixels, or a box under 3 pixels wide or high, has none;
    - the mask names the surface at every pixel's centre; sign posts, lamps, bins and other furniture are 255;
    - the depth is Z along the optical axis in metres; sky and whatever is farther is 255.99.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any] | BaseSettings, seed: int, **options: Any) -> None:
        """Nothing is read from files, so that `root` and the `options` of other sources are not used.

        Args:
            root: not used.
            settings: `Settings`, or a section of params.yaml that is checked against them.
            seed: of the scenes.
            options: not used.

        Raises:
            DatasetError: a setting that does not fit.
        """
        try:
            self.settings = Settings.read(settings, "data.scenes")
        except SettingsError as error:
            raise DatasetError(str(error)) from error
        self.name = "scenes"
        self.classes = {"detection": list(DETECTION), "segmentation": list(SEGMENTATION)}
        self.seed = seed
        self.description: dict[str, Any] = {
            "source": "scenes",
            "seed": seed,
            "width": self.settings.width,
            "height": self.settings.height,
            "kind": "procedural street scenes",
        }

    def split_ids(self) -> dict[str, list[str]]:
        """Ids "00000", "00001", ... for every split."""
        counts = {"train": self.settings.train, "val": self.settings.val, "test": self.settings.test}
        return {split: [f"{index:05d}" for index in range(count)] for split, count in counts.items()}

    def faults(self) -> list[Fault]:
        """None: nothing is read."""
        return []

    def part(self, split: str, ids: Sequence[str]) -> "Scenes":
        """The same source: it holds nothing but numbers."""
        return self

    def sample(self, split: str, image_id: str) -> Sample:
        """Draw the scene of a split and an id; it depends on the seed, these two and the size alone."""
        scene = self.scene(split, image_id)
        return Sample(image_id, split, scene.image, scene.boxes, scene.mask, scene.depth)

    def scene(self, split: str, image_id: str) -> Scene:
        """As `sample`, with the instance map."""
        code = int.from_bytes(hashlib.sha256(split.encode()).digest()[:4], "big")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, code, int(image_id)]))
        return compose(rng, self.settings.width, self.settings.height)
