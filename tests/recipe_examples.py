"""A small but complete plug-in for each recipe of CONTRIBUTING.md."""

from dataclasses import dataclass

Edit = tuple[str, str]  # a text of a file, and the text that takes its place; "" stands for the end of the file


@dataclass(frozen=True)
class Example:
    """What a contributor who follows a recipe writes.

    Attributes:
        name: of the plug-in.
        module: the text of the new module.
        edits: the changes in other files.
        changed_code: the digests of the stage `code` that the addition changes, besides those of the plug-in.
    """

    name: str
    module: str
    edits: dict[str, list[Edit]]
    changed_code: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        """The name of the module."""
        return self.name.replace("-", "_")


SPECKLE = '''"""Dead and stuck pixels."""

import numpy as np

from .effects import Depth, Effect, Image, Parameters, Rng, Setting


def apply_speckle(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """A share of the pixels is black or white."""
    drawn = rng.random(image.shape[:2], dtype=np.float32)
    share = parameters["share"]
    result = image.copy()
    result[drawn < share / 2] = 0
    result[drawn > 1 - share / 2] = 255
    return result


SPECKLE = Effect(
    apply_speckle,
    {"share": Setting(float, "share of the pixels", 0, 1)},
    {"share": (0.01, 0.02, 0.05, 0.1, 0.2)},
    "salt-and-pepper noise",
)
'''

SPECKLE_TEST = """

def test_speckle_replaces_the_asked_share_of_the_pixels() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert abs((degrade(grey, "speckle", 5, 0) != grey).all(axis=2).mean() - 0.2) < 0.02
"""

EDGES = '''"""The loss `edges`: mean absolute difference of the gradients of two images."""

import torch
from torch import Tensor

from .term import Term, TermSettings


class Settings(TermSettings):
    """The raw weight for [0,1] images."""

    raw_weight: float = 0.1


class Edges(Term):
    """The difference of neighbouring pixels' differences, the mean over the batch."""

    settings: Settings

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the only component."""
        return {"edges": self.settings.raw_weight}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The component `edges`."""
        error = restored - clean
        return {"edges": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()}
'''

EDGES_TEST = """

def test_edges_ignore_a_constant_difference() -> None:
    clean = pair()[1] / 2
    logs = build("edges")((clean + 0.25).requires_grad_(), clean, generator()).logs
    assert logs["edges"] == pytest.approx(0, abs=1e-6) and logs["pixel"] == pytest.approx(0.25)
"""

PLAIN = '''"""Two convolutions, added to the image."""

import torch
from torch import nn

from ..settings import Count
from ..settings import Settings as BaseSettings
from .contract import Restorer


class Settings(BaseSettings):
    """Channels between the two convolutions."""

    width: Count = 8


def build_plain(settings: Settings) -> Restorer:
    """The last convolution starts at zero: untrained, it is the identity."""
    first, last = nn.Conv2d(3, settings.width, 3, padding=1), nn.Conv2d(settings.width, 3, 3, padding=1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return Restorer(_Residual(nn.Sequential(first, nn.GELU(), last)), "plain", settings.model_dump(), multiple=1)


class _Residual(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.network(images)
        return images + change
'''

MIRRORED = '''"""Classification of an image and of its mirror image; the answer of higher probability counts."""

from collections.abc import Sequence

from . import classification
from .contract import Image
from .predictions import Label


class Settings(classification.Settings):
    """Settings of the task mirrored-classification."""


class MirroredClassification(classification.Classification):
    """A classifier that looks twice."""

    name = "mirrored-classification"
    settings_type = Settings

    def predict_batch(self, images: Sequence[Image]) -> list[Label]:
        plain, mirrored = super().predict_batch(images), super().predict_batch([i[:, ::-1].copy() for i in images])
        return [max(pair, key=lambda label: label.score) for pair in zip(plain, mirrored, strict=True)]
'''

BOXLIST = '''"""Images, and one CSV file of boxes with the columns split, file, class, left, top, right and bottom."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..labels import DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .objects import LabelError, LabelledObject, fitted_box, object_labels, report
from .paths import ImageEntry

SIDES = ("left", "top", "right", "bottom")


class Settings(FileSettings):
    """The section data.boxlist: the CSV file below data.root."""

    file: str = "boxes.csv"


class BoxList(FileSource):
    """Boxes in pixels, corners from 0."""

    key = "data.boxlist"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        self._file = root / self.settings.file
        try:
            self._rows = list(csv.DictReader(self._file.read_text().splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self._file}: cannot be read ({error}); see data.boxlist.file") from error
        self._map = ClassMap(self.key, sorted({row["class"] for row in self._rows}), self.settings.map)
        self.classes = {"detection": self._map.objects}

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        rows: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in self._rows:
            rows.setdefault((row["split"], row["file"]), []).append(row)
        entries: dict[str, list[ImageEntry]] = {}
        for (split, file), boxes in rows.items():
            entries.setdefault(split, []).append(ImageEntry(self.root / file, boxes))
        return entries

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        objects = []
        for row in entry.labels:
            category = self._map.object(row["class"])
            try:
                left, top, right, bottom = (float(row[side]) for side in SIDES)
                box = fitted_box((left, top, right, bottom), shape)
            except (ValueError, LabelError) as error:
                report(faults, str(self._file), LabelError(str(error)))
                continue
            if category is not None:
                objects.append(LabelledObject(category, box))
        return object_labels(objects, shape, self._map)
'''

BOXLIST_DATA = """def boxlist(root: Path) -> dict[str, Any]:
    lines = ["split,file,class,left,top,right,bottom"]
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            save(root / split / f"{index}.png", picture(9, number, index))
            lines.append(f"{split},{split}/{index}.png,car,20,10,32,20")
    (root / "boxes.csv").write_text("\\n".join(lines))
    return dict(COMMON)


"""

ROUGHNESS = '''"""The metric roughness: how much the edges of an image differ from those of the clean image."""

import numpy as np

from pipeline.metrics.fidelity import Image


def roughness(image: Image, clean: Image) -> float:
    """Mean absolute difference of the differences of neighbouring pixels, in 8-bit levels."""
    error = image.astype(np.float64) - clean
    return float(np.abs(np.diff(error, axis=0)).mean() + np.abs(np.diff(error, axis=1)).mean())
'''

ROUGHNESS_TEST = """

def test_roughness_ignores_a_constant_difference() -> None:
    measure = ImageQuality.measures["roughness"]
    dark, bright = np.full((40, 40, 3), 10, np.uint8), np.full((40, 40, 3), 90, np.uint8)
    assert measure(dark, bright) == 0 < measure(*_pair())
"""

EXAMPLES = {
    "a degradation": Example(
        "speckle",
        SPECKLE,
        {
            "data/degradations/__init__.py": [
                ('    "noise": ".noise', '    "speckle": ".speckle:SPECKLE",\n    "noise": ".noise')
            ],
            "tests/test_degradations.py": [("", SPECKLE_TEST)],
        },
    ),
    "a loss": Example(
        "edges",
        EDGES,
        {
            "models/losses/__init__.py": [
                ('    "lpips": ".lpips', '    "edges": ".edges:Edges",\n    "lpips": ".lpips')
            ],
            "tests/test_losses.py": [("", EDGES_TEST)],
        },
    ),
    "a restorer": Example(
        "plain",
        PLAIN,
        {
            "models/restorers/__init__.py": [
                ('    "checkpoint": ".', '    "plain": ".plain:build_plain",\n    "checkpoint": ".')
            ],
            "tests/test_restorers.py": [('    "unet": {"', '    "plain": {"width": 4},\n    "unet": {"')],
        },
        frozenset({"restorers/checkpoint", "stages/publish"}),  # which can meet any restorer
    ),
    "a task": Example(
        "mirrored-classification",
        MIRRORED,
        {
            "models/tasks/__init__.py": [
                (
                    '    "classification": ".',
                    '    "mirrored-classification": ".mirrored_classification:MirroredClassification",\n'
                    '    "classification": ".',
                )
            ],
            "pipeline/metrics/__init__.py": [
                (
                    '    "quality": ".image_quality',
                    '    "mirrored-classification": ".classification:ClassificationScoring",\n'
                    '    "quality": ".image_quality',
                )
            ],
            "tests/test_tasks.py": [
                (
                    '    "classification": {',
                    '    "mirrored-classification": {"model": "resnet10t", "image_size": 64, "steps": 3, "batch": 4},\n'
                    '    "classification": {',
                )
            ],
        },
    ),
    "a data source": Example(
        "boxlist",
        BOXLIST,
        {
            "data/sources/__init__.py": [
                ('    "coco": ".coco', '    "boxlist": ".boxlist:BoxList",\n    "coco": ".coco')
            ],
            "tests/outside_data.py": [
                ("def masks(root", BOXLIST_DATA + "def masks(root"),
                ('    "coco": coco,', '    "boxlist": boxlist,\n    "coco": coco,'),
            ],
        },
    ),
    "a metric": Example(
        "roughness",
        ROUGHNESS,
        {
            "pipeline/metrics/image_quality.py": [
                (
                    "from pipeline.metrics.scoring import Metric\n",
                    "from pipeline.metrics.roughness import roughness\nfrom pipeline.metrics.scoring import Metric\n",
                ),
                (
                    '{**FIDELITY, "blur": blur}',
                    '{\n        **FIDELITY,\n        "blur": blur,\n        "roughness": roughness,\n    }',
                ),
                (
                    '        Metric("semantic", higher_is_better=False),\n',
                    '        Metric("semantic", higher_is_better=False),\n'
                    '        Metric("roughness", higher_is_better=False),\n',
                ),
            ],
            "tests/test_quality.py": [("", ROUGHNESS_TEST)],
        },
        frozenset({"metrics/quality", "stages/report"}),
    ),
}
