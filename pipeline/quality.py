"""Stage quality: PSNR, SSIM and other metrics of degraded and restored images against the clean images.

Photos without clean counterparts have the metrics that need no reference.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Dataset, Split
from models.losses import needs_prior
from pipeline.metrics import QUALITY, MeanRecords, get_scoring
from pipeline.metrics.fidelity import Image, Measure
from pipeline.running.artifacts import DIFFLOSS_FILE, LEFT_OUT_FILE, RECORDS_FILE, read_from, scored_images
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.execution import Kind, in_parallel, in_threads
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import Params, load_params

Variant = tuple[str, str]  # and the split, such as ("pixel", "test~2")
Readers = Mapping[Variant, Callable[[str], Image]]  # what reads an image of each variant, by its id


def measure(
    clean: Split,
    variants: Readers,
    measures: Mapping[str, Measure],
    network_measures: Mapping[str, Measure] | None = None,
    engine: Kind = "local",
    description: str = "",
) -> dict[Variant, MeanRecords]:
    """The records of each variant: every metric of every image. Clean images are read once for all variants.

    Args:
        clean: the clean images; any images of the same ids if no measure needs a reference.
        variants: what is compared with them.
        measures: measures that need no network, by name.
        network_measures: measures by a network. They are computed in this thread.
        engine: where the other measures are computed: in threads of this process, or on a cluster.
        description: text of the progress bar; there is none without it.
    """
    measure_image = partial(_measure_image, replace(clean, ids=()), variants, measures)  # ids would go to all workers
    jobs = ((image_id,) for image_id in clean.ids)
    rows = in_parallel(measure_image, jobs, engine) if engine == "ray" else in_threads(measure_image, jobs)
    values: dict[Variant, dict[str, dict[str, float]]] = {variant: {} for variant in variants}
    with progress(len(clean.ids), description, "image", hidden=not description) as bar:
        for image_id, row in zip(clean.ids, rows, strict=True):
            by_network = _measure_image(clean, variants, network_measures, image_id) if network_measures else {}
            for variant in variants:
                values[variant][image_id] = row[variant] | by_network.get(variant, {})
            bar.update()
    return {variant: MeanRecords.from_values(scores) for variant, scores in values.items()}


def _measure_image(
    clean: Split, variants: Readers, measures: Mapping[str, Measure], image_id: str
) -> dict[Variant, dict[str, float]]:
    reference = clean.image(image_id)
    versions = {variant: read(image_id) for variant, read in variants.items()}
    return {variant: _measured(image, reference, measures) for variant, image in versions.items()}


def _measured(image: Image, clean: Image, measures: Mapping[str, Measure]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name, measure in measures.items():
        value = measure(image, clean)
        scores |= value if isinstance(value, Mapping) else {name: value}
    return scores


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
    measures, left_out = quality.image_measures(clean, params.quality.no_reference)
    network_measures, without_weights = quality.network_measures(device, params.losses.get("lpips"))
    left_out |= without_weights
    variants = _readers(params, degraded, restored)
    text = f"quality {degraded.folder.name}"
    _save(measure(clean, variants, measures, network_measures, params.engine, text), out)

    image_ids = clean.evenly_spaced(params.quality.prior_images)
    if not any(needs_prior(objective_losses(objective, params.losses)) for objective in params.objectives):
        left_out["natural, semantic"] = "no objective needs a diffusion prior, so none was trained"
    elif not image_ids:
        left_out["natural, semantic"] = "quality.prior_images is 0"
    else:
        section, precision = params.losses.get("diffloss", {}), params.quality.precision
        terms = quality.diffloss_terms(prior, section, params.seed, device, precision)
        for (variant, name), scores in terms.measure(clean, variants, image_ids, f"{text}: DiffLoss's terms").items():
            scores.save(out / variant / name / DIFFLOSS_FILE)
    return left_out


def measure_unpaired(params: Params, degraded: Dataset, restored: Path, out: Path) -> dict[str, str]:
    """Write the records of photos without clean counterparts, degraded and restored, as `measure_all` does."""
    quality: Any = get_scoring(QUALITY)
    measures = quality.measures_without_reference(params.quality.no_reference)
    photos, name = degraded.split(degraded.evaluation_split), degraded.folder.name
    variants = _readers(params, degraded, restored)
    _save(measure(photos, variants, measures, engine=params.engine, description=f"quality {name}"), out)
    without = [metric.name for metric in quality.metrics if metric.name not in {*measures, *quality.no_reference}]
    return {", ".join(without): f"the photos of {name} have no clean counterparts"}


def _readers(params: Params, degraded: Dataset, restored: Path) -> Readers:
    folders = scored_images(degraded, restored, params.objectives)
    return {variant: partial(read_from, folder) for variant, folder in folders.items()}


def _save(records: Mapping[Variant, MeanRecords], out: Path) -> None:
    for (variant, name), scores in records.items():
        scores.save(out / variant / name / RECORDS_FILE)


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", "degraded", "restored", "prior", "out")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    params, restored = load_params(), Path(options.restored)
    with replacing_folder(Path(options.out)) as out:
        if degraded.has_clean_images:
            split = clean.split(clean.evaluation_split)
            left_out = measure_all(params, split, degraded, restored, Path(options.prior), out)
        else:
            left_out = measure_unpaired(params, degraded, restored, out)
        (out / LEFT_OUT_FILE).write_text(json.dumps(left_out, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
