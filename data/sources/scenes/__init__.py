"""The embedded data source: streets drawn from a seed, with exact boxes, masks and metric depth.

A scene consists of flat faces at metric positions, seen by a pin-hole camera, so that depth fits the picture and fog
can be physical. Nothing is downloaded: the only photographs are textures inside scikit-image's wheel.
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
from .composition import compose
from .rendering import DETECTION, SEGMENTATION, Scene

Side = Annotated[int, Field(ge=64)]  # pixels


class Settings(BaseSettings):
    """The section data.scenes.

    Attributes:
        width, height: size of the images, in pixels.
        train, val, test: number of images of the split.
    """

    width: Side
    height: Side
    train: Count
    val: Count
    test: Count


class Scenes:
    """Drawn streets with three kinds of labels:

    - Boxes around the *visible* pixels of cars, people and sign plates. An object with fewer than 16 visible pixels, or
      less than 3 pixels wide or high, has no box.
    - The mask has the class of the surface at each pixel's centre; sign posts, lamps, bins and other furniture are 255.
    - The depth is Z along the optical axis in metres; the sky and larger distances are 255.99.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any] | BaseSettings, seed: int, **options: Any) -> None:
        """Check the settings. No file is read.

        Args:
            root: not used.
            settings: `Settings`, or a section of params.yaml that is checked against them.
            seed: the seed of all scenes.
            options: not used.

        Raises:
            DatasetError: a setting is not valid.
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
        """Always empty, because no file is read."""
        return []

    def notes(self) -> list[Fault]:
        """Always empty, because no file is read."""
        return []

    def groups(self) -> dict[str, dict[str, str]]:
        """Always empty, because every scene is drawn independently."""
        return {}

    def divided_groups(self) -> dict[str, list[str]]:
        """Always empty, because there are no groups."""
        return {}

    def part(self, split: str, ids: Sequence[str]) -> "Scenes":
        """This source itself, which is small."""
        return self

    def sample(self, split: str, image_id: str) -> Sample:
        """Draw one scene. It depends only on seed, split, id and image size."""
        scene = self.scene(split, image_id)
        return Sample(image_id, split, scene.image, scene.boxes, scene.mask, scene.depth)

    def scene(self, split: str, image_id: str) -> Scene:
        """Draw one scene, with the map of instances that `sample` leaves out."""
        code = int.from_bytes(hashlib.sha256(split.encode()).digest()[:4], "big")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, code, int(image_id)]))
        return compose(rng, self.settings.width, self.settings.height)
