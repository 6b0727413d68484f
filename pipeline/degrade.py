"""Stage degrade: one degraded copy of the clean dataset, with a manifest from which any image can be made again.

Finished images survive a kill: the next run makes the missing ones.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data import images
from data.dataset import Dataset, Split, write_info
from data.degradations.recipes import Recipe, require_still_pixels
from data.degradations.records import apply_parameters, draw_parameters
from data.samples import copy_labels
from pipeline.datasets import real_photos
from pipeline.datasets.importing import FAULTS_FILE, import_dataset
from pipeline.datasets.manifests import manifest_row, write_manifest
from pipeline.datasets.recipes import draw_severity, has_copies, recipe_of, severities, with_random_severity
from pipeline.running.atomic_outputs import replacing_folder, resuming_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.execution import Kind, in_parallel
from pipeline.running.progress import progress
from pipeline.running.seeds import seed_for
from pipeline.settings.data import Degrade, Paired, Unpaired
from pipeline.settings.params import Params, load_params
from pipeline.settings.plugins import plugin_modules

PARTIAL = "partial-"  # prefix of the file of an image that is being written


@dataclass(frozen=True)
class Job:
    """One image to degrade.

    Attributes:
        source: split of the clean dataset.
        target: split of the degraded dataset.
    """

    source: str
    target: str
    image_id: str
    severity: int
    seed: int


def main() -> None:
    """Command line."""
    options = parse_arguments("recipe", "clean", "out")
    params = load_params()
    clean, out = Dataset.open(Path(options.clean)), Path(options.out)
    settings = params.degrade.of(options.recipe)
    photos = settings.real.get(options.recipe)
    if isinstance(photos, Paired):
        folder = Path(params.data.root) / photos.folder
        real_photos.copy_paired(clean, folder, options.recipe, out, photos.replace)
    elif isinstance(photos, Unpaired):
        degrade_for_photos(clean, photos, settings, params, out)
    else:
        recipe = recipe_of(settings, options.recipe)
        degrade_dataset(clean, recipe, settings, params.seed, out, params.engine)


def degrade_for_photos(clean: Dataset, photos: Unpaired, settings: Degrade, params: Params, out: Path) -> None:
    """Training pairs by a recipe, and real photos without clean counterparts as the evaluation split."""
    recipe = recipe_of(settings, photos.recipe)
    with replacing_folder(out) as folder:
        training = real_photos.without_evaluation(clean)
        degrade_dataset(training, recipe, with_random_severity(settings), params.seed, folder / "made", params.engine)
        import_dataset(photos.data, params.seed, folder / "photos", shown_as=out)
        (folder / "photos" / FAULTS_FILE).rename(folder / FAULTS_FILE)
        real_photos.join_unpaired(folder, clean, params.tasks)


def degrade_dataset(
    clean: Dataset, recipe: Recipe, settings: Degrade, seed: int, out: Path, engine: Kind = "local"
) -> None:
    """Degrade every image of every split. Labels and masks are copied, because no recipe here moves pixels.

    Args:
        clean: the clean dataset; its depth maps are used where it has them.
        recipe: the degradation.
        settings: the section `degrade`. With several severities the evaluation split is degraded once for each,
            as the splits `test@1`, `test@3`, ..., and every other image has one of them.
        seed: of the run; the seed of an image follows from it, its split and its id.
        out: the degraded dataset; `manifest.csv` in it records split, id, recipe, its effects, severity, seed and
            parameters.
        engine: where the work runs.

    Raises:
        data.degradations.DegradationError: a recipe that moves pixels.
    """
    require_still_pixels(recipe)
    jobs = _list_jobs(clean, recipe, settings, seed)
    targets = {job.target: job.source for job in jobs}  # splits of the degraded set, and of the clean one
    identity = checkpoint_folder(
        ["pipeline.degrade", *(plugin_modules("effects")[step.name] for step in recipe.steps)],
        [str(job) for job in jobs],
        [(step.name, step.rows) for step in recipe.steps],
        fingerprint(clean.folder),
    )
    with resuming_folder(out, identity.name) as folder:
        for target, source in targets.items():
            copy_labels(clean.folder / source, folder / target)
        splits = {name: clean.split(name) for name in clean.info.splits}
        without_ids = {name: replace(split, ids=()) for name, split in splits.items()}  # they go to every worker
        results = in_parallel(partial(_degrade_image, without_ids, recipe, folder), ((job,) for job in jobs), engine)
        rows = []
        with progress(len(jobs), f"degrade {recipe.name}", "image") as bar:
            for row in results:
                rows.append(row)
                bar.update()
        for unfinished in folder.glob(f"{PARTIAL}*"):  # of workers that were killed, now or in an earlier run
            unfinished.unlink()
        write_manifest(folder, rows)
        counts = {target: len(splits[source].ids) for target, source in targets.items()}
        write_info(folder, clean.info.with_splits(counts))


def _list_jobs(clean: Dataset, recipe: Recipe, settings: Degrade, seed: int) -> list[Job]:
    choices = severities(settings, recipe)
    jobs = []
    for split in clean.info.splits:
        is_copied = split == clean.evaluation_split and has_copies(settings, recipe)
        for image_id in clean.split(split).ids:
            image_seed = seed_for(seed, "degrade", recipe.name, split, image_id) % 2**32
            if is_copied:
                jobs += [Job(split, f"{split}@{severity}", image_id, severity, image_seed) for severity in choices]
            else:
                severity = draw_severity(choices, seed, recipe.name, split, image_id)
                jobs.append(Job(split, split, image_id, severity, image_seed))
    return jobs


def _degrade_image(splits: Mapping[str, Split], recipe: Recipe, folder: Path, job: Job) -> dict[str, Any]:
    """Write one image, unless a killed run has written it. Returns its row of the manifest."""
    split = splits[job.source]
    path = folder / job.target / "images" / f"{job.image_id}.png"
    depth = split.depth(job.image_id)
    image = split.image(job.image_id)
    parameters = draw_parameters(recipe, job.severity, job.seed, image.shape[:2], metric_depth=depth is not None)
    if not path.exists():
        unfinished = folder / f"{PARTIAL}{uuid.uuid4().hex}.png"  # a cluster may run one job twice at once
        images.write_image(unfinished, apply_parameters(image, recipe, parameters, job.seed, depth))
        unfinished.rename(path)
    effects = [step.name for step in recipe.steps]
    return manifest_row(job.target, job.image_id, recipe.name, job.severity, job.seed, effects, parameters)


if __name__ == "__main__":
    run_stage(main)
