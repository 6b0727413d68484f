"""An example for each recipe of CONTRIBUTING.md: small, but complete and of its kind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """What somebody who follows a recipe writes.

    `module` is the new file's text. `edits` are what changes in other files: wherever there is the first text, the
    second one takes its place. `choice` is the same for params.yaml, where the new name is used. `tests` chooses from
    the contract tests those that are run here, by pytest's -k.
    """

    name: str
    module: str
    edits: dict[str, list[tuple[str, str]]]
    choice: list[tuple[str, str]]
    tests: str

    @property
    def stem(self) -> str:
        """The name as a module's."""
        return self.name.replace("-", "_")


def _two(folder: str, old: str, new: str) -> str:
    """Two entries of a list in dvc.yaml."""
    return f"- {folder}/{old}.py\n      - {folder}/{new}.py"


SPECKLE = '''"""Dead and stuck pixels."""

import numpy as np

from data.degradations.effects import Depth, Effect, Image, Parameters, Rng, Setting


def apply_speckle(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """A share of the pixels is black or white."""
    drawn = rng.random(image.shape[:2], dtype=np.float32)
    share = parameters["share"]
    result = image.copy()
    result[drawn < share / 2] = 0
    result[drawn > 1 - share / 2] = 255
    return result


SPECKLE = Effect(apply_speckle, {"share": Setting(float, "share of the pixels", 0, 1)}, "salt-and-pepper noise")
'''

EDGES = '''"""The term `edges`: mean absolute difference of neighbouring pixels' differences."""

import torch
from torch import Tensor

from models.losses.settings import EdgesSettings
from models.losses.terms import Frozen, Term


class EdgesTerm(Term):
    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        error = restored - clean
        return {"edges": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()}


def build(name: str, settings: EdgesSettings, frozen: Frozen, pixel_kind: str) -> EdgesTerm:
    """Build the term; it needs nothing frozen."""
    return EdgesTerm(settings, {"edges": settings.raw_weight})
'''

PLAIN = '''"""Convolutions in a row, added to the image."""

import torch
from torch import nn


def build_plain(width: int) -> tuple[nn.Module, int]:
    """Two convolutions; the last one starts at zero: untrained, it is the identity."""
    last = nn.Conv2d(width, 3, 3, padding=1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return _Residual(nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GELU(), last)), 1


class _Residual(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.network(images)
'''

MIRRORED = '''"""Classification of an image and of its mirror image, of which the surer answer counts."""

from models.tasks.classification import Classification, Label
from models.tasks.contract import Image


class MirroredClassification(Classification):
    name = "mirrored-classification"
    labels = "classification"

    def predict(self, image: Image) -> Label:
        seen, mirrored = super().predict(image), super().predict(image[:, ::-1].copy())
        return max(seen, mirrored, key=lambda label: label.score)
'''

TABLE = '''"""Images, and one table of boxes: rows of split, file, class, left, top, right and bottom."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.manifest import DatasetError, Fault
from data.sources.classmap import ClassMap
from data.sources.objects import LabelError, Thing, fitted_box, object_labels, report
from data.sources.outside import Outside
from data.sources.splits import Found


class Table(Outside):
    key = "data.table"

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(root, settings, seed)
        self._file = root / settings["file"]
        try:
            self._rows = list(csv.DictReader(self._file.read_text().splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self._file}: cannot be read ({error}); see data.table.file") from error
        self._map = ClassMap(self.key, sorted({row["class"] for row in self._rows}), settings["map"])
        self.classes = {"detection": self._map.objects}

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        rows: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in self._rows:
            rows.setdefault((row["split"], row["file"]), []).append(row)
        found: dict[str, list[Found]] = {}
        for (split, file), own in rows.items():
            found.setdefault(split, []).append(Found(self.root / file, own))
        return found

    def size(self, found: Found) -> tuple[int, int] | None:
        return None

    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        things = []
        for row in found.labels:
            category = self._map.object(row["class"])
            try:
                left, top, right, bottom = (float(row[side]) for side in ("left", "top", "right", "bottom"))
                box = fitted_box((left, top, right, bottom), shape)
            except (ValueError, LabelError) as error:
                report(faults, str(self._file), LabelError(str(error)))
                continue
            if category is not None:
                things.append(Thing(category, box))
        return object_labels(things, shape, self._map, {"masks": False})
'''

TABLE_DATA = """def table(root: Path) -> dict[str, Any]:
    lines = ["split,file,class,left,top,right,bottom"]
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            save(root / split / f"{index}.png", picture(9, number, index))
            lines.append(f"{split},{split}/{index}.png,car,20,10,32,20")
    (root / "boxes.csv").write_text("\\n".join(lines))
    return {**COMMON, "file": "boxes.csv"}


"""

LOSS_SETTINGS = """import (
    DiffusionSettings,
    EdgesSettings,
    LossError,
    LpipsSettings,
    PixelSettings,
    TaskSettings,
)
"""

EXAMPLES = {
    "a degradation": Example(
        "speckle",
        SPECKLE,
        {
            "data/degradations/severities.py": [
                (
                    '    "noise-poisson":',
                    '    "speckle": {"share": (0.01, 0.02, 0.05, 0.1, 0.2)},\n    "noise-poisson":',
                )
            ],
            "data/degradations/chains.py": [
                ("\n\nEFFECTS", "\nfrom data.degradations.speckle import SPECKLE\n\nEFFECTS"),
                ('    "noise": ', '    "speckle": SPECKLE,\n    "noise": '),
            ],
            "dvc.yaml": [("- data/degradations/severities.py", _two("data/degradations", "severities", "speckle"))],
        },
        [("degradations: [lowlight", "degradations: [speckle, lowlight")],
        "speckle and (any_size or chance or record)",
    ),
    "a loss": Example(
        "edges",
        EDGES,
        {
            "models/losses/settings.py": [
                (
                    "@dataclass(frozen=True)\nclass LpipsSettings",
                    "@dataclass(frozen=True)\nclass EdgesSettings(TermSettings):\n    raw_weight: float = 0.1\n\n\n"
                    "@dataclass(frozen=True)\nclass LpipsSettings",
                )
            ],
            "models/losses/__init__.py": [
                ("import DiffusionSettings, LossError, LpipsSettings, PixelSettings, TaskSettings\n", LOSS_SETTINGS),
                (
                    '    "lpips": LossSpec',
                    '    "edges": LossSpec("models.losses.edges", EdgesSettings),\n    "lpips": LossSpec',
                ),
            ],
            "dvc.yaml": [("- models/losses/task.py", _two("models/losses", "task", "edges"))],
        },
        [
            ("objectives: [pixel", "objectives: [edges, pixel"),
            ("  pixel: {kind: l1}", "  pixel: {kind: l1}\n  edges: {strength: 0.3}"),
        ],
        "edges",
    ),
    "a restorer": Example(
        "plain",
        PLAIN,
        {
            "models/restorers/__init__.py": [
                ("}\nCHECKPOINT", '    "plain": "models.restorers.plain:build_plain",\n}\nCHECKPOINT')
            ],
            "pipeline/settings/restorer.py": [
                ("class NafNet(Section)", "class Plain(Section):\n    width: Count\n\n\nclass NafNet(Section)"),
                ("    checkpoint: Check", "    plain: Plain | None = None\n    checkpoint: Check"),
            ],
            "params.yaml": [("  unet: {", "  plain: {width: 8}\n  unet: {")],
            "params.tiny.yaml": [("  unet: {", "  plain: {width: 8}\n  unet: {")],
            "params.camvid.yaml": [("  unet: {", "  plain: {width: 8}\n  unet: {")],
        },
        [("restorer: nafnet", "restorer: plain")],
        "plain or same_keys",
    ),
    "a task": Example(
        "mirrored-classification",
        MIRRORED,
        {
            "models/tasks/__init__.py": [
                (
                    "}\n\n\ndef get_task",
                    '    "mirrored-classification": "models.tasks.mirrored_classification:MirroredClassification",\n'
                    "}\n\n\ndef get_task",
                )
            ],
            "params.yaml": [("  classification: {", "  mirrored-classification: {}\n  classification: {")],
            "params.tiny.yaml": [("  classification: {", "  mirrored-classification: {}\n  classification: {")],
            "tests/test_tasks.py": [
                (
                    '    "classification": {',
                    '    "mirrored-classification": {"model": "resnet10t", "image_size": 64, "steps": 3, "batch": 4},\n'
                    '    "classification": {',
                )
            ],
        },
        [("tasks: [detection", "tasks: [mirrored-classification, detection")],
        "mirrored and (save_load or perfectly or missing or checked) or same_keys",
    ),
    "a data source": Example(
        "table",
        TABLE,
        {
            "data/sources/__init__.py": [
                ('    "voc": "data.', '    "table": "data.sources.table:Table",\n    "voc": "data.')
            ],
            "pipeline/settings/data.py": [
                ("class Data(Section)", "class Table(Outside):\n    file: str\n\n\nclass Data(Section)"),
                ("    yolo: Yolo | None = None\n", "    yolo: Yolo | None = None\n    table: Table | None = None\n"),
            ],
            "tests/outside_data.py": [
                ("def masks(root", TABLE_DATA + "def masks(root"),
                ('    "voc": voc,', '    "table": table,\n    "voc": voc,'),
            ],
            "dvc.yaml": [("- data/sources/splits.py", _two("data/sources", "splits", "table"))],
        },
        [
            ("source: scenes ", "source: table "),
            ("  scenes: {width", "  table: {name: mine, file: boxes.csv}\n  scenes: {width"),
        ],
        "table and not becomes",
    ),
}
