"""The images that gained most and lost most by restoring, as pictures. Not a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from data import images
from data.dataset import Dataset
from pipeline.metrics import get_scoring
from pipeline.reporting import pictures
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains

LABELS = "labels"
WIDEST = 320  # pixels of a picture in the grid


@dataclass(frozen=True)
class Place:
    """One image of one copy of the split, with its scores on the degraded and the restored image."""

    split: str
    id: str
    before: float
    after: float


def choose(found: pd.DataFrame, count: int, split: str) -> dict[str, list[Place]]:
    """The places with the largest gains, and with the largest losses; fewer where fewer gained or lost at all.

    Args:
        found: rows of `image_gains` of one task, degradation, variant and metric.
        count: at most so many of each.
        split: of ids that name none.
    """
    ordered = found.dropna(subset=["gain"]).sort_values(["gain", "id"], ascending=[False, True], kind="stable")
    best = ordered[ordered.gain > 0].head(count)
    worst = ordered[ordered.gain < 0].iloc[::-1].head(count)
    return {"best": _places(best, split), "worst": _places(worst, split)}


def _places(rows: pd.DataFrame, split: str) -> list[Place]:
    names = [str(id).rpartition("/") for id in rows.id]
    return [
        Place(own or split, id, float(before), float(after))
        for (own, _, id), before, after in zip(names, rows.before, rows.score, strict=True)
    ]


@dataclass
class Painter:
    """Draws what one task saw on the images of one degradation.

    Args:
        name: of the task.
        clean: the clean dataset.
        degraded: the degraded one.
        restored: folder <objective>/<split>/ of restored images.
        predictions: variant to the folder that holds <split>/predictions.
    """

    name: str
    clean: Dataset
    degraded: Dataset
    restored: Path
    predictions: Mapping[str, Path]
    _read: dict[Path, Any] = field(default_factory=dict)

    def columns(self, variant: str, places: Sequence[Place]) -> dict[str, list[pictures.Image]]:
        """Degraded, restored, clean (where there is one) and labels, one picture for each place."""
        columns = {
            DEGRADED: [_stamped(self._seen(DEGRADED, place), place.before) for place in places],
            variant: [_stamped(self._seen(variant, place), place.after) for place in places],
        }
        if self.degraded.has_clean_images:
            columns[CLEAN] = [_fit(self._seen(CLEAN, place)) for place in places]
        return {**columns, LABELS: [_fit(self._labels(place)) for place in places]}

    def _seen(self, variant: str, place: Place) -> pictures.Image:
        split = self.clean.evaluation_split if variant == CLEAN else place.split
        folder = self.predictions[variant] / split / "predictions"
        if folder not in self._read:
            self._read[folder] = get_scoring(self.name).read(folder)
        return self._draw(self._image(variant, place), self._read[folder][place.id])

    def _labels(self, place: Place) -> pictures.Image:
        truth = get_scoring(self.name).truth(self.degraded.split(place.split), place.id)
        return self._draw(self._image(CLEAN if self.degraded.has_clean_images else DEGRADED, place), truth)

    def _image(self, variant: str, place: Place) -> pictures.Image:
        if variant == CLEAN:
            return self.clean.split(self.clean.evaluation_split).image(place.id)
        if variant == DEGRADED:
            return self.degraded.split(place.split).image(place.id)
        return images.read_image(self.restored / variant / place.split / f"{place.id}.png")

    def _draw(self, image: pictures.Image, prediction: Any) -> pictures.Image:
        scoring = get_scoring(self.name)
        return scoring.draw(image, prediction, self.clean.info.classes_of(scoring.labels, self.name))


def draw_extremes(params: Params, table: pd.DataFrame, degradation: str, painter: Painter, out: Path) -> list[str]:
    """Write best-<degradation>-<task>-<objective>.png and worst-... into a folder; returns the names written.

    Args:
        params: the objectives, and how many images there are in a picture.
        table: images.csv.
        degradation: its name.
        painter: of the task.
        out: an existing folder.
    """
    written = []
    found = image_gains(table[(table.task == painter.name) & (table.degradation == degradation)], params.objectives)
    for variant, own in found.groupby("variant", sort=False):
        chosen = choose(own, params.report.extremes, painter.degraded.evaluation_splits[0])
        for kind, places in chosen.items():
            if places:
                name = f"{kind}-{degradation}-{painter.name}-{variant}.png"
                images.write_image(out / name, pictures.grid(painter.columns(str(variant), places)))
                written.append(name)
    return written


def _stamped(image: pictures.Image, score: float) -> pictures.Image:
    """With the image's score in its corner."""
    canvas = np.ascontiguousarray(_fit(image)).copy()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, f"{score:.2f}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
    return canvas


def _fit(image: pictures.Image) -> pictures.Image:
    return pictures.fit(image, WIDEST)
