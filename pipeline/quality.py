"""Stage quality: PSNR, SSIM and other metrics of degraded and restored images against the clean images."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Dataset, Split
from models.losses import needs_prior
from pipeline.metrics import QUALITY, MeanRecords, get_scoring
from pipeline.metrics.fidelity import FIDELITY, Image, Measure
from pipeline.reporting.pictures import evenly
from pipeline.running.artifacts import DIFFLOSS_FILE, LEFT_OUT_FILE, RECORDS_FILE, read_from, scored_images
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.execution import Kind, in_parallel
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import Params, load_params


def measure(
    clean: Split,
    read: Callable[[str], Image],
    torch_measures: Mapping[str, Measure] | None = None,
    engine: Kind = "local",
) -> MeanRecords:
    """The records of a split: every metric of every image.

    Args:
        clean: the clean images.
        read: image id -> the image that is compared with the clean one.
        torch_measures: measures that need torch, by name. They are computed in this process.
        engine: where the other measures are computed.
    """
    measure_image = partial(_measure_image, replace(clean, ids=()), read)  # without ids, which all workers would get
    rows = in_parallel(measure_image, ((image_id,) for image_id in clean.ids), engine)
    values: dict[str, dict[str, float]] = dict(zip(clean.ids, rows, strict=True))
    if torch_measures:
        for image_id in clean.ids:
            image, reference = read(image_id), clean.image(image_id)
            values[image_id] |= {name: measure(image, reference) for name, measure in torch_measures.items()}
    return MeanRecords.from_values(values)


def _measure_image(clean: Split, read: Callable[[str], Image], image_id: str) -> dict[str, float]:
    quality: Any = get_scoring(QUALITY)
    reference, image = clean.image(image_id), read(image_id)
    return {name: measure(image, reference) for name, measure in quality.measures.items()}


def measure_all(
    params: Params, clean: Split, degraded: Dataset, restored: Path, prior: Path, out: Path
) -> dict[str, str]:
    """Write the records of the degraded images and of every restorer.

    Args:
        params: objectives, the settings of DiffLoss and the number of images on which its terms are measured.
        clean: the clean images.
        degraded: the degraded dataset.
        restored: folder of the restored images, by objective and split.
        prior: folder of the prior.
        out: an existing folder.

    Returns:
        The metrics that were left out, with the reason.
    """
    quality: Any = get_scoring(QUALITY)
    device = choose_device()
    torch_measures, left_out = quality.torch_measures(clean, device)
    image_ids = evenly(clean.ids, params.quality.prior_images)
    terms = None
    if not any(needs_prior(objective_losses(objective, params.losses)) for objective in params.objectives):
        left_out["natural, semantic"] = "no objective needs a diffusion prior, so none was trained"
    elif not image_ids:
        left_out["natural, semantic"] = "quality.prior_images is 0"
    else:
        terms = quality.diffloss_terms(prior, params.losses.get("diffloss", {}), params.seed, device)
    for (variant, name), folder in scored_images(degraded, restored, params.objectives).items():
        target = out / variant / name
        target.mkdir(parents=True)
        read = partial(read_from, folder)
        measure(clean, read, torch_measures, params.engine).save(target / RECORDS_FILE)
        if terms:
            terms.measure(clean, read, image_ids).save(target / DIFFLOSS_FILE)
    return left_out


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", "degraded", "restored", "prior", "out")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    params = load_params()
    with replacing_folder(Path(options.out)) as out:
        if not degraded.has_clean_images:
            names = ", ".join(FIDELITY)
            print(f"{options.degraded}: {names} left out: the photos have no clean counterparts")
            return
        split = clean.split(clean.evaluation_split)
        left_out = measure_all(params, split, degraded, Path(options.restored), Path(options.prior), out)
        (out / LEFT_OUT_FILE).write_text(json.dumps(left_out, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
