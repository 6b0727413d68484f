"""Stage arm_images: the images that the task networks of one arm are trained and tested on, with their labels."""

from pathlib import Path

import torch

from data.dataset import Dataset, DatasetInfo, write_info
from data.samples import copy_labels
from models.restorers import load_restorer
from models.restorers.contract import Restorer
from pipeline.running.artifacts import trained_file
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.progress import progress
from pipeline.running.restoring import restore_image
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import DEGRADED, Arm, arm_error, parse_arm
from pipeline.settings.params import ParamsError, load_params
from pipeline.settings.training import Restore

TRAIN = "train"


def write_images(
    arm: Arm, clean: Dataset, degraded: Dataset, restorer: Restorer | None, settings: Restore, out: Path
) -> None:
    """Write a dataset with the splits that the arm needs: `train` if it is retrained, and the evaluation splits.

    Args:
        arm: the arm.
        clean: the clean dataset.
        degraded: the degraded dataset.
        restorer: applied to the images; None: the images are copied.
        settings: tiles of large images.
        out: the folder of the new dataset.
    """
    source = degraded if arm.retrained else clean
    splits = [*([TRAIN] if arm.retrained else []), *source.evaluation_splits]
    with replacing_folder(out) as folder:
        for name in splits:
            split = source.split(name)
            copy_labels(split.folder, folder / name)
            with progress(len(split.ids), f"{arm.name} {name}", "image") as bar, torch.inference_mode():
                for image_id in split.ids:
                    target = folder / name / "images" / f"{image_id}.png"
                    if restorer is None:
                        target.write_bytes((split.folder / "images" / f"{image_id}.png").read_bytes())
                    else:
                        restore_image(restorer, split.image(image_id), settings, target)
                    bar.update()
        counts = {name: source.info.splits[name] for name in splits}
        write_info(folder, DatasetInfo(clean.info.name, clean.info.classes, counts, source.info.source))


def main() -> None:
    """Command line."""
    options = parse_arguments("arm", "clean", "degraded", "restorers", "out")
    params = load_params()
    arm = parse_arm(options.arm)
    if arm is None:
        raise ParamsError(f"--arm: {arm_error(options.arm, params.objectives)}")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    restorer = None
    if arm.source != DEGRADED:
        restorer = load_restorer(trained_file(Path(options.restorers) / arm.source)).to(choose_device())
    write_images(arm, clean, degraded, restorer, params.restore, Path(options.out))


if __name__ == "__main__":
    run_stage(main)
