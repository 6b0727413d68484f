"""Stage arm_images: the images that the task networks of one arm are trained and tested on, with their labels.

The folder of a retrained arm also has the clean evaluation images, as its network would see them: the arm is scored on
them too. If the restorer was trained several times, further trainings of the network have folders of their own,
`training-2/` and so on. The images of a joint arm are the degraded and the clean ones: its restorer goes on learning in
the stage `arm`. What it starts from is written as digests, so that only a change there trains the arm again.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.dataset import Dataset, DatasetInfo, Split, write_info
from data.samples import copy_labels
from models.restorers.contract import Restorer
from pipeline.running.artifacts import JOINT_FILE, ON_CLEAN_FOLDER, arm_images_folder, trained_files
from pipeline.running.atomic_outputs import read_json, replacing_folder
from pipeline.running.digests import code_digest, data_digest, digest_files
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.progress import progress
from pipeline.running.restoring import open_restorer, restore_split
from pipeline.settings.grammar import CLEAN, Arm, arm_error, parse_arm
from pipeline.settings.params import ParamsError, load_params
from pipeline.settings.plugins import plugin_modules
from pipeline.settings.training import Restore

TRAIN = "train"


def write_images(
    arm: Arm, clean: Dataset, degraded: Dataset, restorer: Restorer | None, settings: Restore, folder: Path
) -> None:
    """Write a dataset with the splits that the arm needs: `train` if it is retrained, and the evaluation splits.

    If it is retrained, `on-clean/` is a dataset of the clean evaluation images.

    Args:
        arm: the arm.
        clean: the clean dataset.
        degraded: the degraded dataset.
        restorer: applied to the images; None: the images are copied.
        settings: tiles of large images.
        folder: of the new dataset.
    """
    tested = degraded if arm.retrained else clean
    splits = [tested.split(name) for name in tested.evaluation_splits]
    if arm.retrained:
        learned = clean if arm.source == CLEAN else degraded
        splits = [learned.split(TRAIN), *splits]
    _write_splits(arm, splits, tested.info, clean.info, restorer, settings, folder)
    if arm.retrained:
        on_clean = [clean.split(clean.evaluation_split)]
        _write_splits(arm, on_clean, clean.info, clean.info, restorer, settings, folder / ON_CLEAN_FOLDER)


def _write_splits(
    arm: Arm,
    splits: Sequence[Split],
    source: DatasetInfo,
    clean: DatasetInfo,
    restorer: Restorer | None,
    settings: Restore,
    folder: Path,
) -> None:
    """Write splits, restored or copied, as a dataset with the name and classes of the clean one, groups of `source`."""
    for split in splits:
        name = split.folder.name
        copy_labels(split.folder, folder / name)
        target, text = folder / name / "images", f"{arm.name} {name}"
        if restorer is None:
            _copy_images(split, target, text)
        else:
            _restore(restorer, split, settings, target, text)
    info = source.with_splits({split.folder.name: len(split.ids) for split in splits})
    write_info(folder, replace(info, name=clean.name, classes=clean.classes))


def describe_joint(objective: Path, restorers: Sequence[Path], clean: Dataset) -> dict[str, Any]:
    """What a joint arm starts from: its restorers' objective, and the digests of their weights and the clean images."""
    return {
        **read_json(objective, "objective", "losses"),
        "restorer": digest_files(*restorers),
        "clean": data_digest(clean.folder / TRAIN),
        "code of features": code_digest([plugin_modules("losses")["task"]]),  # part of every joint objective
    }


def _restore(restorer: Restorer, split: Split, settings: Restore, out: Path, description: str) -> None:
    restore_split(lambda: restorer, split, settings, out, description)


def _copy_images(split: Split, out: Path, description: str) -> None:
    out.mkdir(exist_ok=True)
    with progress(len(split.ids), description, "image") as bar:
        for image_id in split.ids:
            (out / f"{image_id}.png").write_bytes((split.folder / "images" / f"{image_id}.png").read_bytes())
            bar.update()


def main() -> None:
    """Command line."""
    options = parse_arguments("arm", "clean", "degraded", "restorers", "objectives", "out")
    params = load_params()
    arm, error = parse_arm(options.arm), arm_error(options.arm, params.objectives)
    if arm is None or error:
        raise ParamsError(f"--arm: {error}")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    weights = trained_files(Path(options.restorers) / arm.source) if arm.source in params.objectives else []
    weights = weights[: params.retraining.repeats if arm.retrained else 1]
    with replacing_folder(Path(options.out)) as folder:
        if arm.joint or not weights:
            write_images(arm, clean, degraded, None, params.restore, folder)
        else:
            for number, file in enumerate(weights, start=1):
                into = arm_images_folder(folder, number)
                write_images(arm, clean, degraded, open_restorer(file), params.restore, into)
        if arm.joint:
            joint = describe_joint(Path(options.objectives) / f"{arm.source}.json", weights, clean)
            (folder / JOINT_FILE).write_text(json.dumps(joint, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
