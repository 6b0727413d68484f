"""Stage quality: PSNR, SSIM and other metrics of degraded and restored images against the clean ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from data import images
from data.dataset import Dataset, Split
from models.losses import needs_prior
from pipeline.metrics import MeanRecords
from pipeline.metrics.diffloss_terms import load_terms
from pipeline.metrics.image_quality import METRICS, Image, Metric, available, blur
from pipeline.reporting.pictures import evenly
from pipeline.running.artifacts import DIFFLOSS_FILE, LEFT_OUT_FILE, RECORDS_FILE, trainings
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.execution import Kind, in_parallel
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import DEGRADED, objective_losses
from pipeline.settings.params import Params, load_params


def measure(
    clean: Split, read: Callable[[str], Image], others: Mapping[str, Metric] | None = None, engine: Kind = "local"
) -> MeanRecords:
    """Every metric for every image of a split.

    Args:
        clean: what is compared with.
        read: gives the image to compare by its id.
        others: metrics that are computed here, and not in parallel: those of torch.
        engine: where the rest is computed.
    """
    one = partial(_measure_image, replace(clean, ids=()), read)  # the ids would go to every worker
    rows = in_parallel(one, ((id,) for id in clean.ids), engine)
    found: dict[str, dict[str, float]] = dict(zip(clean.ids, rows, strict=True))
    for id in clean.ids if others else ():
        image, reference = read(id), clean.image(id)
        found[id] |= {name: metric(image, reference) for name, metric in (others or {}).items()}
    return MeanRecords.from_values(found)


def _measure_image(clean: Split, read: Callable[[str], Image], id: str) -> dict[str, float]:
    reference, image = clean.image(id), read(id)
    return {name: metric(image, reference) for name, metric in {**METRICS, "blur": blur}.items()}


class FolderReader:
    """Reads <folder>/<id>.png; a class, so that it can be sent to another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, id: str) -> Image:
        return images.read_image(self.folder / f"{id}.png")


def measure_all(
    params: Params, clean: Split, degraded: Dataset, restored: Path, prior: Path, out: Path
) -> dict[str, str]:
    """Write the records of the degraded images and of every restorer; returns which metrics were left out, and why.

    Args:
        params: objectives, the settings of DiffLoss and how many images its terms are measured on.
        clean: the clean images.
        degraded: the degraded dataset.
        restored: folder of the restored images, by objective and split.
        prior: folder of the prior.
        out: an existing folder.
    """
    device = choose_device()
    others, missing = available(clean, device)
    chosen = evenly(clean.ids, params.quality.prior_images)
    terms = None
    if not any(needs_prior(objective_losses(objective, params.losses)) for objective in params.objectives):
        missing["natural, semantic"] = "no objective needs a diffusion prior, so that there is none"
    elif not chosen:
        missing["natural, semantic"] = "quality.prior_images is 0"
    else:
        terms = load_terms(prior, params.losses.get("diffloss", {}), params.seed, device)
    for (variant, name), folder in _folders(params, degraded, restored).items():
        target = out / variant / name
        target.mkdir(parents=True)
        measure(clean, FolderReader(folder), others, params.engine).save(target / RECORDS_FILE)
        if terms:
            terms.measure(clean, FolderReader(folder), chosen).save(target / DIFFLOSS_FILE)
    return missing


def _folders(params: Params, degraded: Dataset, restored: Path) -> dict[tuple[str, str], Path]:
    """The images of each variant and split."""
    folders = {}
    for split in degraded.evaluation_splits:
        folders[DEGRADED, split] = degraded.folder / split / "images"
        for objective in params.objectives:
            folders |= {(objective, folder.name): folder for folder in trainings(restored / objective, split)}
    return folders


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", "degraded", "restored", "prior", "out")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    params = load_params()
    with replacing_folder(Path(options.out)) as out:
        if not degraded.has_clean_images:
            print(
                f"{options.degraded}: real photos without clean counterparts, so that {', '.join(METRICS)} are left out"
            )
            return
        split = clean.split(clean.evaluation_split)
        missing = measure_all(params, split, degraded, Path(options.restored), Path(options.prior), out)
        (out / LEFT_OUT_FILE).write_text(json.dumps(missing, indent=1) + "\n")
    for name, reason in missing.items():
        print(f"{options.degraded}: {name} left out: {reason}")


if __name__ == "__main__":
    run_stage(main)
