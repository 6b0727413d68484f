"""Degraded datasets from real photos: photos of the clean scenes, or labelled photos without clean counterparts."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data import images
from data.dataset import UNPAIRED, Dataset, DatasetInfo, Split, write_info
from data.labels import LABELS
from data.samples import copy_labels
from pipeline.datasets.manifests import MANIFEST, write_manifest
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.progress import progress

ENDINGS = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
LISTED_PHOTOS = 3  # in a message
Image = NDArray[np.uint8]


class RealPhotosError(ValueError):
    """Real degraded photos that do not fit the clean images. The text names the files."""


def copy_paired(clean: Dataset, root: Path, name: str, out: Path) -> None:
    """A degraded dataset from photos of the same scenes: <root>/<split>/<id>.png or .jpg for every clean image.

    Labels are those of the clean images.

    Raises:
        RealPhotosError: a photo is missing, or has another size than its clean image.
    """
    photos = {split: _find_photos(root / split, clean.split(split).ids) for split in clean.info.splits}
    rows = []
    with replacing_folder(out) as folder:
        for split, files in photos.items():
            copy_labels(clean.folder / split, folder / split)
            with progress(len(files), f"read {name} {split}", "image") as bar:
                for image_id, file in files.items():
                    photo = _read_photo(file, clean.split(split), image_id)
                    images.write_image(folder / split / "images" / f"{image_id}.png", photo)
                    path = file.relative_to(root).as_posix()
                    rows.append({"split": split, "id": image_id, "recipe": name, "file": path})
                    bar.update()
        write_manifest(folder, rows)
        write_info(folder, clean.info)


def without_evaluation(clean: Dataset) -> Dataset:
    """The clean dataset without the split that results are reported on."""
    splits = {name: count for name, count in clean.info.splits.items() if name != clean.evaluation_split}
    return Dataset(clean.folder, clean.info.with_splits(splits))


def join_unpaired(folder: Path, clean: Dataset, tasks: Sequence[str]) -> None:
    """One dataset from <folder>/made (degraded training images) and <folder>/photos (labelled, no clean images).

    The photos' split test, or else val or train, becomes the evaluation split. Both sub-folders are removed.

    Raises:
        RealPhotosError: the photos lack labels of a task, or their classes are not those of the clean data.
    """
    made, photos = Dataset.open(folder / "made"), Dataset.open(folder / "photos")
    _check_classes(clean, photos, tasks)
    photo_split = next(split for split in ("test", "val", "train") if split in photos.info.splits)
    photo_ids = photos.split(photo_split).ids
    for split in made.info.splits:
        (made.folder / split).rename(folder / split)
    (photos.folder / photo_split).rename(folder / clean.evaluation_split)
    manifest = pd.read_csv(made.folder / MANIFEST, dtype=str, keep_default_na=False)
    name = photos.info.name
    rows = pd.DataFrame([{"split": clean.evaluation_split, "id": photo_id, "recipe": name} for photo_id in photo_ids])
    pd.concat([manifest, rows]).to_csv(folder / MANIFEST, index=False, lineterminator="\n")
    counts = {**made.info.splits, clean.evaluation_split: photos.info.splits[photo_split]}
    groups = dict(made.info.groups)
    if photo_split in photos.info.groups:
        groups[clean.evaluation_split] = photos.info.groups[photo_split]
    source = {**photos.info.source, UNPAIRED: True}
    write_info(folder, DatasetInfo(name, clean.info.classes, counts, source, groups=groups))
    shutil.rmtree(made.folder)
    shutil.rmtree(photos.folder)


def _check_classes(clean: Dataset, photos: Dataset, tasks: Sequence[str]) -> None:
    """The classes of the labels that the tasks are scored with must be those of the clean data."""
    if set(tasks) <= set(LABELS):
        kinds = [kind for kind in LABELS if kind in tasks]
    else:  # a task of another name may be scored with any labels: all kinds that the photos have must fit
        kinds = [kind for kind in LABELS if kind in tasks or kind in photos.info.classes]
    for kind in kinds:
        expected, classes = clean.info.classes.get(kind, []), photos.info.classes.get(kind, [])
        if classes != expected:
            raise RealPhotosError(
                f"real photos {photos.info.name}: the classes of {kind} are {', '.join(classes) or 'missing'}, "
                f"those of the clean data are {', '.join(expected)}. Give both the same classes in the same order "
                "(`map` in docs/how-to/datasets.md)."
            )


def _find_photos(folder: Path, image_ids: Sequence[str]) -> dict[str, Path]:
    """The photo of each clean image."""
    photos: dict[str, Path] = {}
    for image_id in image_ids:
        existing = [path for ending in ENDINGS if (path := folder / f"{image_id}{ending}").exists()]
        if existing:
            photos[image_id] = existing[0]
    missing = [image_id for image_id in image_ids if image_id not in photos]
    if missing:
        more = f" and {len(missing) - LISTED_PHOTOS} more" if len(missing) > LISTED_PHOTOS else ""
        raise RealPhotosError(
            f"{folder}: no photo for the clean images {', '.join(missing[:LISTED_PHOTOS])}{more}. "
            "Add <id>.png or <id>.jpg."
        )
    return photos


def _read_photo(file: Path, clean: Split, image_id: str) -> Image:
    photo, reference = images.read_image(file), clean.image(image_id)
    if photo.shape != reference.shape:
        raise RealPhotosError(
            f"{file}: has {photo.shape[:2]} pixels (height, width), its clean image {reference.shape[:2]}. Resize the "
            "photo; with data.longest_side, to the reduced size."
        )
    return photo
