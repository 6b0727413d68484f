"""Stage degrade: one degraded copy of the clean dataset, with a manifest that can make any image again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from data import images
from data.degradations import degrade_with_parameters, require_still_pixels
from data.manifest import LABEL_FOLDERS, Dataset, Split, write_info
from pipeline import runtime
from pipeline.params import load_params
from pipeline.training import progress

MANIFEST = "manifest.csv"


def degrade_dataset(clean: Dataset, recipe: str, severity: int, seed: int, out: Path) -> None:
    """Degrade every image of every split; labels and masks are copied, since no recipe here moves pixels.

    Args:
        clean: the clean dataset; its depth maps are used where it has them.
        recipe: a name in data.degradations.RECIPES.
        severity: 1 to 5.
        seed: of the run; every image gets one of its own from it, its split and its id.
        out: the degraded dataset; `manifest.csv` in it records split, id, recipe, severity, seed and parameters.

    Raises:
        data.degradations.DegradationError: no such recipe, or one that moves pixels.
    """
    require_still_pixels(recipe)
    work = [(clean.split(name), name, id) for name in clean.info.splits for id in clean.split(name).ids]
    with runtime.replacing_folder(out) as folder:
        for name in clean.info.splits:
            _copy_labels(clean.folder / name, folder / name)
        results = Parallel(n_jobs=-1, return_as="generator")(
            delayed(_degrade_image)(split, split_name, id, recipe, severity, seed, folder)
            for split, split_name, id in work
        )
        rows = []
        with progress(len(work), f"degrade {recipe}", "image") as bar:
            for row in results:
                rows.append(row)
                bar.update()
        pd.DataFrame(rows).to_csv(folder / MANIFEST, index=False, lineterminator="\n")
        write_info(folder, clean.info)


def _degrade_image(
    split: Split, split_name: str, id: str, recipe: str, severity: int, seed: int, folder: Path
) -> dict[str, Any]:
    own_seed = runtime.seed_for(seed, "degrade", recipe, split_name, id) % 2**32
    result = degrade_with_parameters(split.image(id), recipe, severity, own_seed, split.depth(id))
    images.write_image(folder / split_name / "images" / f"{id}.png", result.image)
    drawn = {name: _cell(value) for name, value in result.parameters.items()}
    return {"split": split_name, "id": id, "recipe": recipe, "severity": severity, "seed": own_seed, **drawn}


def _cell(value: Any) -> str:
    """Text that gives the same value back: floats by their shortest exact form, lists as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _copy_labels(source: Path, target: Path) -> None:
    (target / "images").mkdir(parents=True)
    for kind in LABEL_FOLDERS:
        if (source / kind).is_dir():
            shutil.copytree(source / kind, target / kind)


def main() -> None:
    """Command line."""
    options = runtime.arguments("recipe", "clean", "out")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    degrade_dataset(clean, options.recipe, params.degrade.severity, params.seed, Path(options.out))


if __name__ == "__main__":
    runtime.run_stage(main)
