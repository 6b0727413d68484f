"""What a task network predicts, drawn onto images: evenly spaced ones, and those that gained and lost most.

Grids are files in pictures/. For the HTML page the same images become JPEG data URIs, within a budget of bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from data.dataset import Dataset
from data.images import read_image
from pipeline.metrics import get_scoring
from pipeline.metrics.prediction_files import PredictionReader
from pipeline.reporting.document import Comparison, PictureFile, Slider
from pipeline.reporting.html import data_uri
from pipeline.reporting.pictures import Image, fit, grid, jpeg
from pipeline.reporting.tables import RunFolders
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import CLEAN, DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains

LABELS = "labels"
EXTREME_CELL_WIDTH = 320  # pixels
SLIDER_BUDGET = 2_500_000  # bytes of JPEG in all sliders
EXTREMES_BUDGET = 2_000_000  # characters of data URIs of all grids of extreme images
EXTREMES_WIDTH = 960  # pixels of such a grid; a file that is no wider is embedded as it is
SLIDER_WIDTHS = (480, 360, 240, 160)  # pixels, tried in turn
VERBS = {"best": "gained", "worst": "lost"}


@dataclass
class PredictionPainter:
    """Draws what one task network predicts on the images of one degradation.

    Args:
        task: its name.
        clean: the clean dataset.
        degraded: the degraded one.
        restored: folder <objective>/<split>/ of restored images.
        records: variant to the folder that holds <split>/predictions.
        predictions: reads them.
    """

    task: str
    clean: Dataset
    degraded: Dataset
    restored: Path
    records: Mapping[str, Path]
    predictions: PredictionReader = field(default_factory=PredictionReader)

    @classmethod
    def open(
        cls, params: Params, clean: Dataset, folders: RunFolders, degradation: str, task: str
    ) -> "PredictionPainter":
        """The painter of a task and degradation of a finished run."""
        degraded, restored = Dataset.open(folders.degraded / degradation), folders.restored / degradation
        records = folders.records(params, task, degradation)
        return cls(task, clean, degraded, restored, records, folders.predictions)

    def predicted(self, variant: str, split: str, image_id: str) -> Image:
        """The prediction on an image of a variant: `clean`, `degraded` or an objective."""
        folder = self.records[variant] / (self.clean.evaluation_split if variant == CLEAN else split) / "predictions"
        predicted = self.predictions.read(get_scoring(self.task), folder)
        return self._draw(self._image(variant, split, image_id), predicted[image_id])

    def labels(self, split: str, image_id: str) -> Image:
        """The labels, on the clean image if there is one."""
        truth = get_scoring(self.task).truth(self.degraded.split(split), image_id)
        return self._draw(self._image(CLEAN if self.degraded.has_clean_images else DEGRADED, split, image_id), truth)

    def _image(self, variant: str, split: str, image_id: str) -> Image:
        if variant == CLEAN:
            return self.clean.split(self.clean.evaluation_split).image(image_id)
        if variant == DEGRADED:
            return self.degraded.split(split).image(image_id)
        return read_image(self.restored / variant / split / f"{image_id}.png")

    def _draw(self, image: Image, prediction: Any) -> Image:
        scoring = get_scoring(self.task)
        return scoring.draw(image, prediction, self.clean.info.classes_of(scoring.labels, self.task))


def draw_comparisons(params: Params, clean: Dataset, folders: RunFolders, out: Path) -> list[Comparison]:
    """Write <degradation>-<task>.jpg: the same images degraded, restored by each objective, clean, with labels.

    Returns:
        The files, with the same images as sliders.
    """
    comparisons = []
    budget = SLIDER_BUDGET // max(1, len(params.degradations) * len(params.tasks))
    pairs = list(product(params.degradations, params.tasks))
    for degradation, task in with_progress(pairs, "report: pictures", "picture"):
        painter = PredictionPainter.open(params, clean, folders, degradation, task)
        split = painter.degraded.evaluation_splits[-1]  # of several severities the last
        image_ids = painter.degraded.split(split).evenly_spaced(params.report.pictures)
        variants = [DEGRADED, *params.objectives, *([CLEAN] if painter.degraded.has_clean_images else [])]
        columns = {v: [painter.predicted(v, split, image_id) for image_id in image_ids] for v in variants}
        columns[LABELS] = [painter.labels(split, image_id) for image_id in image_ids]
        file = f"{degradation}-{task}.jpg"
        (out / file).write_bytes(jpeg(grid(columns)))
        comparisons.append(Comparison(degradation, task, file, make_sliders(image_ids, columns, budget)))
    return comparisons


def make_sliders(image_ids: Sequence[str], columns: Mapping[str, Sequence[Image]], budget: int) -> list[Slider]:
    """Images in all their versions, as wide as the budget allows; if even the narrowest exceed it, fewer images.

    Args:
        image_ids: of N images.
        columns: version (`degraded`, an objective, ...) to its N images (H, W, 3); the others are compared with the
            first.
        budget: bytes of JPEG.
    """
    sizes = [(len(image_ids), width) for width in SLIDER_WIDTHS]
    sizes += [(count, SLIDER_WIDTHS[-1]) for count in range(len(image_ids) - 1, 0, -1)]
    for count, width in sizes:
        coded = {version: [jpeg(image, width) for image in images[:count]] for version, images in columns.items()}
        if sum(len(content) for contents in coded.values() for content in contents) <= budget:
            break
    left, right = list(columns)[:2]
    sliders = []
    for place, image_id in enumerate(image_ids[:count]):
        height, width = columns[left][place].shape[:2]
        versions = {version: data_uri(contents[place], "image/jpeg") for version, contents in coded.items()}
        sliders.append(Slider(image_id, width, height, versions, left, right))
    return sliders


@dataclass(frozen=True)
class ScoredImage:
    """An image of one copy of the split, with its scores on the degraded and the restored image."""

    split: str
    image_id: str
    before: float
    after: float


def draw_extremes(
    params: Params, clean: Dataset, folders: RunFolders, scores: pd.DataFrame, out: Path, budget: int = EXTREMES_BUDGET
) -> list[PictureFile]:
    """Write best-<degradation>-<task>-<objective>.jpg and worst-...: the images that gained and lost most.

    Args:
        params: the three lists, and how many images there are in a picture.
        clean: the clean dataset.
        folders: of the finished run.
        scores: images.csv.
        out: an existing folder.
        budget: characters of the data URIs; files that do not fit get none.

    Returns:
        The files; none is written if no image gained or lost.
    """
    files = []
    pairs = list(product(params.degradations, params.tasks))
    for degradation, task in with_progress(pairs, "report: images that gained and lost most", "picture"):
        painter = PredictionPainter.open(params, clean, folders, degradation, task)
        of_cell = scores[(scores.task == task) & (scores.degradation == degradation)]
        for variant, gains in image_gains(of_cell, params.objectives).groupby("variant", sort=False):
            extremes = choose_extremes(gains, params.report.extremes, painter.degraded.evaluation_splits[0])
            for kind, chosen in extremes.items():
                if chosen:
                    picture = grid(_extreme_columns(painter, str(variant), chosen))
                    file = f"{kind}-{degradation}-{task}-{variant}.jpg"
                    content = jpeg(picture)
                    (out / file).write_bytes(content)
                    title = f"{degradation}, {task}, {variant}: images that {VERBS[kind]} most"
                    uri = embed(picture, content, budget)
                    budget -= len(uri)
                    files.append(PictureFile(file, title, f"{title}, with predictions; one image in a row", uri))
    return files


def embed(picture: Image, content: bytes, budget: int) -> str:
    """A picture with its JPEG file's content as a data URI, or "" if that is longer than the budget."""
    if picture.shape[1] > EXTREMES_WIDTH:
        content = jpeg(picture, EXTREMES_WIDTH)
    uri = data_uri(content, "image/jpeg")
    return uri if len(uri) <= budget else ""


def choose_extremes(gains: pd.DataFrame, count: int, split: str) -> dict[str, list[ScoredImage]]:
    """The images with the largest gains (best) and the largest losses (worst).

    Args:
        gains: rows of `image_gains` of one task, degradation, variant and metric.
        count: at most so many of each; fewer if fewer gained or lost.
        split: of ids without one.
    """
    ordered = gains.dropna(subset=["gain"]).sort_values(["gain", "id"], ascending=[False, True], kind="stable")
    best = ordered[ordered.gain > 0].head(count)
    worst = ordered[ordered.gain < 0].iloc[::-1].head(count)
    return {"best": _scored_images(best, split), "worst": _scored_images(worst, split)}


def _scored_images(rows: pd.DataFrame, split: str) -> list[ScoredImage]:
    images = []
    for name, before, after in zip(rows.id, rows.before, rows.score, strict=True):
        copy, _, image_id = str(name).rpartition("/")
        images.append(ScoredImage(copy or split, image_id, float(before), float(after)))
    return images


def _extreme_columns(painter: PredictionPainter, variant: str, chosen: Sequence[ScoredImage]) -> dict[str, list[Image]]:
    """Degraded, restored, clean if there is one, and labels, with a row for each image and scores in the corners."""
    columns: dict[str, list[Image]] = {DEGRADED: [], variant: []}
    for image in chosen:
        columns[DEGRADED].append(_stamped(painter.predicted(DEGRADED, image.split, image.image_id), image.before))
        columns[variant].append(_stamped(painter.predicted(variant, image.split, image.image_id), image.after))
    if painter.degraded.has_clean_images:
        columns[CLEAN] = [_fit(painter.predicted(CLEAN, image.split, image.image_id)) for image in chosen]
    columns[LABELS] = [_fit(painter.labels(image.split, image.image_id)) for image in chosen]
    return columns


def _stamped(image: Image, score: float) -> Image:
    """With the image's score in its corner."""
    canvas = np.ascontiguousarray(_fit(image)).copy()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, f"{score:.2f}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
    return canvas


def _fit(image: Image) -> Image:
    return fit(image, EXTREME_CELL_WIDTH)
