"""Degraded datasets from real photos: photos of the clean scenes, or labelled photos without clean counterparts."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data import images
from data.dataset import UNPAIRED, Dataset, DatasetInfo, Split, write_info
from data.labels import LABELS
from data.photos import Exif, read_photo
from data.samples import copy_labels
from data.sources.files import Names, pictures_below, trailing_parts
from pipeline.datasets.importing import read_files
from pipeline.datasets.manifests import MANIFEST, write_manifest
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.progress import progress

LISTED_PHOTOS = 3  # in a message
Image = NDArray[np.uint8]


class RealPhotosError(ValueError):
    """Real degraded photos that do not fit the clean images. The text names the files."""


def copy_paired(clean: Dataset, root: Path, name: str, out: Path, replace: Mapping[str, str] | None = None) -> None:
    """A degraded dataset from photos of the same scenes. Labels are those of the clean images.

    Args:
        clean: the clean dataset; files.csv in it says from which files its images come.
        root: the folder of the photos. They have the paths of the clean images' files, or are <split>/<id>; the ending
            can be another.
        name: the name of the degradation.
        out: the folder to write.
        replace: regular expressions that are replaced in the path of a clean image to get that of its photo.

    Raises:
        RealPhotosError: a photo is missing, belongs to several images, or has another size than its clean image.
    """
    photos = find_photos(clean, root, replace or {})
    exif: Exif = "stored" if clean.info.source.get("exif") == "stored" else "size"
    rows = []
    with replacing_folder(out) as folder:
        for split, files in photos.items():
            copy_labels(clean.folder / split, folder / split)
            with progress(len(files), f"read {name} {split}", "image") as bar:
                for image_id, file in files.items():
                    photo = _read_photo(file, clean.split(split), image_id, exif)
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

    The photos' split test, or else val or train, becomes the evaluation split. Both sub-folders are removed. The
    dataset has the kinds of labels whose classes the photos share with the clean data, so that a task that is added
    later is not scored with other classes.

    Raises:
        RealPhotosError: the photos lack labels of a task, or their classes are not those of the clean data.
    """
    made, photos = Dataset.open(folder / "made"), Dataset.open(folder / "photos")
    classes = _common_classes(clean, photos, tasks)
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
    write_info(folder, DatasetInfo(name, classes, counts, source, groups=groups))
    shutil.rmtree(made.folder)
    shutil.rmtree(photos.folder)


def _common_classes(clean: Dataset, photos: Dataset, tasks: Sequence[str]) -> dict[str, list[str]]:
    """The kinds of labels with the same classes in both; those that the tasks are scored with must be among them."""
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
    return {kind: classes for kind, classes in clean.info.classes.items() if photos.info.classes.get(kind) == classes}


def find_photos(clean: Dataset, root: Path, replace: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """The photo of each clean image, by split and id. Arguments and errors as of `copy_paired`."""
    names = Names(pictures_below(root), lambda path: path.relative_to(root).with_suffix("").as_posix())
    origins = read_files(clean.folder)
    photos: dict[str, dict[str, Path]] = {split: {} for split in clean.info.splits}
    image_of: dict[Path, str] = {}
    missing = []
    for split in clean.info.splits:
        for image_id in clean.split(split).ids:
            origin = origins.get((split, image_id), f"{image_id}.png")
            photo = names.find(f"{split}/{image_id}") or _find_photo(names, origin, split, replace)
            if photo is None:
                missing.append(origin)
                continue
            other = image_of.setdefault(photo, origin)
            if other != origin:
                raise RealPhotosError(
                    f"{photo}: fits the clean images {other} and {origin}. Put the photos into the folders that the "
                    "clean images have, or set `replace`."
                )
            photos[split][image_id] = photo
    if missing:
        more = f" and {len(missing) - LISTED_PHOTOS} more" if len(missing) > LISTED_PHOTOS else ""
        raise RealPhotosError(
            f"{root}: no photo for the clean images {', '.join(missing[:LISTED_PHOTOS])}{more}. "
            "Add photos of the same names in the same folders, or set `replace`."
        )
    return photos


def _find_photo(names: Names, origin: str, split: str, replace: Mapping[str, str]) -> Path | None:
    """The photo with the longest end of the path of the clean image."""
    path = Path(origin).with_suffix("").as_posix()
    for pattern, text in replace.items():
        path = re.sub(pattern, text, path)
    ends = list(trailing_parts(path))
    choices = (names.find(choice) for end in ends for choice in (end, f"{split}/{end}"))
    return next((photo for photo in choices if photo is not None), None)


def _read_photo(file: Path, clean: Split, image_id: str, exif: Exif) -> Image:
    reference = clean.image(image_id)
    height, width = reference.shape[:2]
    photo = read_photo(file, (width, height), exif).pixels
    if photo.shape != reference.shape:
        raise RealPhotosError(
            f"{file}: has {photo.shape[:2]} pixels (height, width), its clean image {reference.shape[:2]}. Resize the "
            "photo; with data.longest_side, to the reduced size."
        )
    return photo
