"""Command: make degraded images again from the manifest, and compare them with the stored ones.

    python -m pipeline.commands.redo_image ID --recipe fog

The manifest records everything that was drawn, so the pixels are the same whatever params.yaml says today.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import images
from data.dataset import Dataset
from data.degradations import RECIPES, DegradationError, build_chain, get_recipe
from data.degradations.recipes import Recipe
from data.degradations.records import apply_parameters
from pipeline.datasets.manifests import FIRST_COLUMNS, MANIFEST, STEPS, ManifestError, is_plain_name, read_manifest
from pipeline.running.entry import run_command
from pipeline.settings.params import DAG, RUN_IN_ROOT, read_yaml


def redo_image(clean: Dataset, row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The degraded image (H, W, 3) of one row of a manifest, with the same pixels as the image that the stage wrote.

    Args:
        clean: the clean dataset.
        row: split, id, recipe, steps, severity, seed and the drawn parameters, as read by `read_manifest`.

    Raises:
        ManifestError: a row of a real photo, or a damaged name or seed.
        data.degradations.DegradationError: a record that does not fit its recipe.
    """
    image_id = row["id"]
    if not isinstance(row.get(STEPS), str):
        recipe = str(row["recipe"])[:60]
        raise ManifestError(
            f"{image_id}: {recipe!r}: real photos cannot be made again. Choose an image that a recipe degraded."
        )
    if not isinstance(row["recipe"], str) or not is_plain_name(row["recipe"]):
        raise ManifestError(f"{image_id}: recipe: expected a name, got {str(row['recipe'])[:60]!r}")
    split = clean.split(row["split"].partition("@")[0])
    if image_id not in split.ids:
        raise ManifestError(f"{image_id}: {split.folder} has no image of this name. Give the clean dataset as --clean.")
    parameters = {name: value for name, value in row.items() if name not in FIRST_COLUMNS}
    try:
        seed = int(row["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ManifestError(f"{image_id}: seed: expected a whole number, got {row.get('seed')!r}") from error
    return apply_parameters(split.image(image_id), _recorded_recipe(row), parameters, seed, split.depth(image_id))


def _recorded_recipe(row: Mapping[str, Any]) -> Recipe:
    """The recipe behind a row of a manifest, whatever params.yaml says today.

    Raises:
        data.degradations.DegradationError: the row has unknown effects, or no list of effects.
    """
    try:
        effects = json.loads(row[STEPS])
    except (ValueError, RecursionError):
        effects = None
    name = row["recipe"]
    if not isinstance(effects, list):
        raise DegradationError(f"{name}, steps: expected a list of effects, got {row[STEPS][:60]!r}")
    if name in RECIPES and effects == [step["effect"] for step in RECIPES[name].steps]:
        return get_recipe(name)
    return build_chain([{"effect": effect} for effect in effects], name)


def redo_images(options: Namespace) -> Iterator[tuple[Path, bool]]:
    """Write the chosen degraded images; yields each file, and whether it has the pixels of the stored image.

    Raises:
        ManifestError: a manifest is damaged, or a row cannot be made again.
        data.degradations.DegradationError: a record does not fit its recipe.
    """
    clean = Dataset.open(options.clean)
    for manifest in sorted(options.degraded.glob(f"**/{MANIFEST}")):
        table = read_manifest(manifest.parent)
        for row in table[table["id"] == options.image_id].to_dict("records"):
            if options.split in (None, row["split"]) and options.recipe in (None, row["recipe"]):
                path = options.out / f"{row['recipe']}-{row['split']}-{row['id']}.png"
                image = redo_image(clean, row)
                path.parent.mkdir(parents=True, exist_ok=True)
                images.write_image(path, image)
                stored = manifest.parent / row["split"] / "images" / f"{row['id']}.png"
                yield path, np.array_equal(images.read_image(stored), image)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.redo_image", description=__doc__)
    parser.add_argument("image_id", metavar="ID", help="of the image; all its splits and recipes are made again")
    parser.add_argument("--recipe", help="only this recipe")
    parser.add_argument("--split", help="only this split")
    parser.add_argument("--out", type=Path, default=Path("redone"), help="output folder (%(default)s)")
    stages = read_yaml(DAG, hint=RUN_IN_ROOT)["stages"] if DAG.exists() else {}
    for name, stage in (("clean", "prepare"), ("degraded", "degrade")):
        folder = Path(stages[stage]["outs"][0].partition("/${")[0]) if stages else None
        parser.add_argument(
            f"--{name}", type=Path, default=folder, required=folder is None, help="folder of the dataset (%(default)s)"
        )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    redone = list(redo_images(options))
    if not redone:
        raise ManifestError(
            f"{options.image_id}: is in no manifest below {options.degraded}. Give an image's file name without its "
            "ending."
        )
    for path, is_same in redone:
        print(f"{path}: {'the same pixels' if is_same else 'NOT the same pixels'} as in {options.degraded}")


if __name__ == "__main__":
    run_command(main)
