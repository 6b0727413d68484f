"""Real degraded photos in place of made ones. Not a stage."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data import images
from data.dataset import LABEL_FOLDERS, LABELS, UNPAIRED, Dataset, DatasetInfo, Split, write_info
from pipeline.datasets.degrading import MANIFEST
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.progress import progress

ENDINGS = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
SHOWN = 3
Image = NDArray[np.uint8]


class RealPhotosError(ValueError):
    """Real degraded photos that do not fit the clean ones; the text names the files."""


def copy_paired(clean: Dataset, root: Path, name: str, out: Path) -> None:
    """A degraded dataset from photos of the same scenes: <root>/<split>/<id>.png or .jpg for every clean image.

    Labels are those of the clean images.

    Raises:
        RealPhotosError: photos that are missing, or of another size than the clean one.
    """
    found = {split: _find(root / split, clean.split(split).ids) for split in clean.info.splits}
    rows = []
    with replacing_folder(out) as folder:
        for split, files in found.items():
            copy_labels(clean.folder / split, folder / split)
            with progress(len(files), f"read {name} {split}", "image") as bar:
                for id, file in files.items():
                    images.write_image(folder / split / "images" / f"{id}.png", _read(file, clean.split(split), id))
                    rows.append({"split": split, "id": id, "recipe": name, "file": file.relative_to(root).as_posix()})
                    bar.update()
        pd.DataFrame(rows).to_csv(folder / MANIFEST, index=False, lineterminator="\n")
        write_info(folder, DatasetInfo(clean.info.name, clean.info.classes, clean.info.splits, clean.info.source))


def without_evaluation(clean: Dataset) -> Dataset:
    """The clean dataset without the split that results are reported on."""
    splits = {name: count for name, count in clean.info.splits.items() if name != clean.evaluation_split}
    return Dataset(clean.folder, replace(clean.info, splits=splits))


def join(folder: Path, clean: Dataset, tasks: Sequence[str]) -> None:
    """One dataset from <folder>/made (degraded training images) and <folder>/photos (labelled, no clean images).

    The photos' test split (else val, else train) becomes the evaluation split; both sub-folders vanish.

    Raises:
        RealPhotosError: the photos lack labels of a task, or their classes are not those of the clean data.
    """
    made, photos = (Dataset.open(folder / name) for name in ("made", "photos"))
    judged = [labels for labels in LABELS if labels in tasks]
    if len(judged) < len(tasks):  # some task is judged by labels of another name: all that the photos have must fit
        judged = [labels for labels in LABELS if labels in judged or labels in photos.info.classes]
    for labels in judged:
        ours, theirs = (dataset.info.classes.get(labels, []) for dataset in (clean, photos))
        if ours != theirs:
            raise RealPhotosError(
                f"real photos {photos.info.name}: the classes of {labels} must be those of the clean data, in their "
                f"order: {', '.join(ours)}; but they are: {', '.join(theirs) or 'none'} (see `map` in docs/datasets.md)"
            )
    chosen = next(split for split in ("test", "val", "train") if split in photos.info.splits)
    ids = photos.split(chosen).ids
    for split in made.info.splits:
        (made.folder / split).rename(folder / split)
    (photos.folder / chosen).rename(folder / clean.evaluation_split)
    manifest = pd.read_csv(made.folder / MANIFEST, dtype=str, keep_default_na=False)
    names = photos.info.name
    rows = [{"split": clean.evaluation_split, "id": id, "recipe": names} for id in ids]
    pd.concat([manifest, pd.DataFrame(rows)]).to_csv(folder / MANIFEST, index=False, lineterminator="\n")
    counts = {**made.info.splits, clean.evaluation_split: photos.info.splits[chosen]}
    write_info(folder, DatasetInfo(names, clean.info.classes, counts, {**photos.info.source, UNPAIRED: True}))
    for part in (made, photos):
        shutil.rmtree(part.folder)


def copy_labels(source: Path, target: Path) -> None:
    """Copy everything but images and depth from one split's folder to another's; a second time changes nothing."""
    (target / "images").mkdir(parents=True, exist_ok=True)
    for kind in LABEL_FOLDERS:
        if (source / kind).is_dir():
            shutil.copytree(source / kind, target / kind, dirs_exist_ok=True)


def _find(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    files = {id: next((p for e in ENDINGS if (p := folder / f"{id}{e}").exists()), None) for id in ids}
    missing = [id for id, file in files.items() if file is None]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise RealPhotosError(
            f"{folder}: no photo for the clean images {', '.join(missing[:SHOWN])}{more}; expected <id>.png or .jpg"
        )
    return {id: file for id, file in files.items() if file is not None}


def _read(file: Path, clean: Split, id: str) -> Image:
    image, reference = images.read_image(file), clean.image(id)
    if image.shape != reference.shape:
        raise RealPhotosError(
            f"{file}: {image.shape[:2]} pixels (height, width), its clean image {reference.shape[:2]}; "
            "sizes must agree, and with data.longest_side the photos must be as small"
        )
    return image
