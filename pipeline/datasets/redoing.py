"""Degraded images made again from the manifest alone: python -m pipeline.degrade --redo ID."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from data import images
from data.dataset import Dataset
from data.degradations import RECIPES, DegradationError, build_chain, get_recipe
from data.degradations.chains import Recipe
from data.degradations.records import apply_parameters
from pipeline.datasets.manifests import FIRST_COLUMNS, MANIFEST, STEPS, ManifestError, is_plain_name, read_manifest

OPTION = "--redo"
DAG = Path("dvc.yaml")


def redo_image(clean: Dataset, row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The degraded image (H, W, 3) of one row of a manifest: byte for byte what the stage wrote.

    Args:
        clean: the clean dataset.
        row: split, id, recipe, steps, severity, seed and the drawn parameters, as read by `read_manifest`.

    Raises:
        ManifestError: a row of real photos, which no recipe makes, or a name or seed that cannot be.
        data.degradations.DegradationError: a record that does not fit its recipe.
    """
    image_id = row["id"]
    if not isinstance(row.get(STEPS), str):
        recipe = str(row["recipe"])[:60]
        raise ManifestError(f"{image_id}: {recipe!r}: real photos have no record to make them from")
    if not isinstance(row["recipe"], str) or not is_plain_name(row["recipe"]):
        raise ManifestError(f"{image_id}: recipe: expected a name, got {str(row['recipe'])[:60]!r}")
    split = clean.split(row["split"].partition("@")[0])
    if image_id not in split.ids:
        raise ManifestError(f"{image_id}: {split.folder} has no image of this name")
    parameters = {name: value for name, value in row.items() if name not in FIRST_COLUMNS}
    try:
        seed = int(row["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ManifestError(f"{image_id}: seed: expected a whole number, got {row.get('seed')!r}") from error
    return apply_parameters(split.image(image_id), _recorded_recipe(row), parameters, seed, split.depth(image_id))


def main() -> None:
    """Command line."""
    options = _options()
    clean = Dataset.open(options.clean)
    redone = list(_redo_all(clean, options))
    if not redone:
        raise ManifestError(f"{options.redo}: in none of the manifests below {options.degraded}; ids are file names")
    for path, is_same in redone:
        print(f"{path}: {'the same bytes' if is_same else 'NOT the same pixels'} as in {options.degraded}")


def _recorded_recipe(row: Mapping[str, Any]) -> Recipe:
    """The recipe behind a row of a manifest, whatever params.yaml says today.

    Raises:
        data.degradations.DegradationError: it has effects that do not exist, or is no record.
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


def _redo_all(clean: Dataset, options: argparse.Namespace) -> Iterator[tuple[Path, bool]]:
    """Each file that was written, and whether it equals the stored image."""
    for manifest in sorted(options.degraded.glob(f"**/{MANIFEST}")):
        table = read_manifest(manifest.parent)
        for row in table[table["id"] == options.redo].to_dict("records"):
            if options.split in (None, row["split"]) and options.recipe in (None, row["recipe"]):
                path = options.out / f"{row['recipe']}-{row['split']}-{row['id']}.png"
                image = redo_image(clean, row)
                path.parent.mkdir(parents=True, exist_ok=True)
                images.write_image(path, image)
                stored = manifest.parent / row["split"] / "images" / f"{row['id']}.png"
                yield path, np.array_equal(images.read_image(stored), image)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.degrade", description=__doc__)
    parser.add_argument(OPTION, metavar="ID", required=True, help="of the image, in whatever splits and recipes it is")
    parser.add_argument("--recipe", help="only of this recipe")
    parser.add_argument("--split", help="only of this split")
    parser.add_argument("--out", type=Path, default=Path("redone"), help="folder for the image (%(default)s)")
    stages = YAML(typ="safe").load(DAG)["stages"] if DAG.exists() else {}
    for name, stage in (("clean", "prepare"), ("degraded", "degrade")):
        out = Path(stages[stage]["outs"][0].partition("/${")[0]) if stages else None
        parser.add_argument(f"--{name}", type=Path, default=out, required=out is None, help="folder (%(default)s)")
    return parser.parse_args()
