"""Stage degrade: one degraded copy of the clean dataset, with a manifest that can make any image again.

Finished images survive a kill: the next run makes the missing ones.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from data import images
from data.dataset import Dataset, DatasetInfo, Split, write_info
from data.degradations import apply_parameters, draw_parameters, require_still_pixels
from data.degradations.effects import Recipe
from pipeline.datasets import degrading, real_photos
from pipeline.datasets.degrading import draw_severity, has_copies, one_for_each_image, recipe_of, severities, steps_of
from pipeline.datasets.importing import FAULTS_FILE, read_dataset
from pipeline.running.atomic_outputs import replacing_folder, resuming_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.execution import Kind, in_parallel
from pipeline.running.progress import progress
from pipeline.running.seeds import seed_for
from pipeline.settings.degrade import Degrade, Paired, Unpaired
from pipeline.settings.params import Params, load_params

PARTIAL = "partial-"  # an image that is being written


@dataclass(frozen=True)
class Job:
    """One image to be degraded: from which split of the clean set, into which of the degraded one."""

    source: str
    target: str
    id: str
    severity: int
    seed: int


def degrade_dataset(
    clean: Dataset, recipe: Recipe, settings: Degrade, seed: int, out: Path, engine: Kind = "local"
) -> None:
    """Degrade every image of every split; labels and masks are copied, since no recipe here moves pixels.

    Args:
        clean: the clean dataset; its depth maps are used where it has them.
        recipe: the degradation.
        settings: the section `degrade`: with several severities the evaluation split is degraded once for each,
            as the splits `test@1`, `test@3`, ..., and all other images get one of them each.
        seed: of the run; every image gets one of its own from it, its split and its id.
        out: the degraded dataset; `manifest.csv` in it records split, id, recipe, its effects, severity, seed and
            parameters.
        engine: where the work runs.

    Raises:
        data.degradations.DegradationError: a recipe that moves pixels.
    """
    require_still_pixels(recipe)
    jobs = list(_jobs(clean, recipe, settings, seed))
    identity = checkpoint_folder(
        ["pipeline.degrade"],
        [str(job) for job in jobs],
        [(step.name, step.rows) for step in recipe.steps],
        fingerprint(clean.folder),
    )
    with resuming_folder(out, identity.name) as folder:
        for source, target in dict.fromkeys((job.source, job.target) for job in jobs):
            real_photos.copy_labels(clean.folder / source, folder / target)
        opened = {name: clean.split(name) for name in clean.info.splits}
        without_ids = {name: replace(split, ids=()) for name, split in opened.items()}  # they go to every worker
        results = in_parallel(partial(_degrade_image, without_ids, recipe, folder), ((job,) for job in jobs), engine)
        rows = []
        with progress(len(jobs), f"degrade {recipe.name}", "image") as bar:
            for row in results:
                rows.append(row)
                bar.update()
        for unfinished in folder.glob(f"{PARTIAL}*"):  # of workers that were killed, now or in an earlier run
            unfinished.unlink()
        pd.DataFrame(rows).to_csv(folder / degrading.MANIFEST, index=False, lineterminator="\n")
        counts = {
            target: len(opened[source].ids) for source, target in dict.fromkeys((j.source, j.target) for j in jobs)
        }
        write_info(folder, DatasetInfo(clean.info.name, clean.info.classes, counts, clean.info.source))


def _jobs(clean: Dataset, recipe: Recipe, settings: Degrade, seed: int) -> Iterator[Job]:
    choices = severities(settings, recipe)
    for split in clean.info.splits:
        copied = split == clean.evaluation_split and has_copies(settings, recipe)
        for id in clean.split(split).ids:
            own_seed = seed_for(seed, "degrade", recipe.name, split, id) % 2**32
            if copied:
                yield from (Job(split, f"{split}@{severity}", id, severity, own_seed) for severity in choices)
            else:
                yield Job(split, split, id, draw_severity(choices, seed, recipe.name, split, id), own_seed)


def _degrade_image(splits: Mapping[str, Split], recipe: Recipe, folder: Path, job: Job) -> dict[str, Any]:
    """Write one image, unless a run that was killed has done so; returns its row of the manifest."""
    split = splits[job.source]
    path = folder / job.target / "images" / f"{job.id}.png"
    depth = split.depth(job.id)
    image = split.image(job.id)
    parameters = draw_parameters(recipe, job.severity, job.seed, image.shape[:2], metric_depth=depth is not None)
    if not path.exists():
        unfinished = folder / f"{PARTIAL}{uuid.uuid4().hex}.png"  # a cluster may run one job twice at once
        images.write_image(unfinished, apply_parameters(image, recipe, parameters, job.seed, depth))
        unfinished.rename(path)
    drawn = {name: _cell(value) for name, value in parameters.items()}
    row = {"split": job.target, "id": job.id, "recipe": recipe.name, "severity": job.severity, "seed": job.seed}
    return {**row, degrading.STEPS: steps_of(recipe), **drawn}


def _cell(value: Any) -> str:
    """Text that gives the same value back: floats by their shortest exact form, lists as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def main() -> None:
    """Command line."""
    options = parse_arguments("recipe", "clean", "out")
    params = load_params()
    clean, out = Dataset.open(Path(options.clean)), Path(options.out)
    settings = params.degrade.of(options.recipe)
    photos = settings.real.get(options.recipe)
    if isinstance(photos, Paired):
        real_photos.copy_paired(clean, Path(params.data.root) / photos.folder, options.recipe, out)
    elif isinstance(photos, Unpaired):
        _degrade_for_photos(clean, photos, settings, params, out)
    else:
        recipe = recipe_of(settings, options.recipe)
        degrade_dataset(clean, recipe, settings, params.seed, out, params.engine)


def _degrade_for_photos(clean: Dataset, photos: Unpaired, settings: Degrade, params: Params, out: Path) -> None:
    """Training pairs by a recipe, and real photos without clean counterparts as the evaluation split."""
    recipe = recipe_of(settings, photos.recipe)
    with replacing_folder(out) as folder:
        training = real_photos.without_evaluation(clean)
        degrade_dataset(training, recipe, one_for_each_image(settings), params.seed, folder / "made", params.engine)
        read_dataset(photos.data, params.seed, folder / "photos", named=out)
        (folder / "photos" / FAULTS_FILE).rename(folder / FAULTS_FILE)
        real_photos.join(folder, clean, params.tasks)


if __name__ == "__main__":
    run_stage(main)
