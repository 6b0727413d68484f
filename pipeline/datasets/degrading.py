"""The degradations that params.yaml asks for: recipes by name or as chains of its own, and severities. Not a stage."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from data import images
from data.dataset import Dataset
from data.degradations import apply_parameters
from data.degradations.effects import DegradationError, Recipe
from data.degradations.recipes import RECIPES, build_chain, get_recipe
from pipeline.running.seeds import seed_for
from pipeline.settings.degrade import Degrade, RandomSeverity


def recipe_of(settings: Degrade, name: str) -> Recipe:
    """The recipe of that name: one of params.yaml's own chains, or one of the table's.

    Raises:
        data.degradations.DegradationError: no such recipe, or a chain with a mistake in it.
    """
    chain = settings.recipes.get(name)
    return get_recipe(name) if chain is None else build_chain(chain, name)


def severities(settings: Degrade, recipe: Recipe) -> tuple[int, ...]:
    """The severities that images of a recipe have; one for a published recipe, whose setting is its name's."""
    if isinstance(settings.severity, int):
        return (settings.severity,)
    asked = settings.severity.random if isinstance(settings.severity, RandomSeverity) else settings.severity
    return asked[:1] if recipe.fixed else asked


def has_copies(settings: Degrade, recipe: Recipe) -> bool:
    """Whether the evaluation split is degraded once for each severity, instead of one severity for each image."""
    return not isinstance(settings.severity, RandomSeverity) and len(severities(settings, recipe)) > 1


def one_for_each_image(settings: Degrade) -> Degrade:
    """The same severities, of which every image gets one."""
    if isinstance(settings.severity, tuple):
        return settings.model_copy(update={"severity": RandomSeverity(random=settings.severity)})
    return settings


def draw_severity(choices: Sequence[int], seed: int, recipe: str, split: str, id: str) -> int:
    """One of the severities for one image, with equal chances."""
    return choices[seed_for(seed, "severity", recipe, split, id) % len(choices)]


def steps_of(recipe: Recipe) -> str:
    """The effects of a recipe as JSON: with the recorded parameters all that is needed to build it again."""
    return json.dumps([step.name for step in recipe.steps])


def recorded_recipe(row: Mapping[str, Any]) -> Recipe:
    """The recipe behind a row of a manifest, whatever params.yaml says today.

    Raises:
        data.degradations.DegradationError: it has effects that do not exist, or is no record.
    """
    try:
        effects = json.loads(row["steps"])
    except (ValueError, RecursionError):
        effects = None
    if not isinstance(effects, list):
        raise DegradationError(f"{row['recipe']}, steps: expected a list of effects, got {row['steps'][:60]!r}")
    known = RECIPES.get(row["recipe"])
    if known is not None and [step.name for step in known.steps] == effects:
        return known
    return build_chain([{"effect": name} for name in effects], row["recipe"])


MANIFEST = "manifest.csv"
STEPS = "steps"
OPTION = "--redo"
DAG = Path("dvc.yaml")
NAMES = ("split", "id", "recipe")
OWN_COLUMNS = {"split", "id", "recipe", "severity", "seed", STEPS}


class RedoError(ValueError):
    """An image that cannot be made again; the text says why."""


def redo_image(clean: Dataset, row: dict[str, Any]) -> NDArray[np.uint8]:
    """The degraded image (H, W, 3) of one row of a manifest: byte for byte what the stage wrote.

    Args:
        clean: the clean dataset.
        row: split, id, recipe, steps, severity, seed and the drawn parameters, as read by `read_manifest`.

    Raises:
        RedoError: a row of real photos, which nobody can make.
        data.degradations.DegradationError: a record that does not fit its recipe.
    """
    if not isinstance(row.get(STEPS), str):
        raise RedoError(f"{row['id']}: {str(row['recipe'])[:60]!r}: real photos have no record to make them from")
    if not isinstance(row["recipe"], str) or not _is_plain(row["recipe"]):
        raise RedoError(f"{row['id']}: recipe: expected a name, got {str(row['recipe'])[:60]!r}")
    split = clean.split(row["split"].partition("@")[0])
    if row["id"] not in split.ids:
        raise RedoError(f"{row['id']}: {split.folder} has no image of this name")
    parameters = {name: value for name, value in row.items() if name not in OWN_COLUMNS}
    try:
        seed = int(row["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RedoError(f"{row['id']}: seed: expected a whole number, got {row.get('seed')!r}") from error
    return apply_parameters(split.image(row["id"]), recorded_recipe(row), parameters, seed, split.depth(row["id"]))


def read_manifest(folder: Path) -> pd.DataFrame:
    """The manifest of a degraded dataset; floats are read exactly.

    Raises:
        RedoError: there is none, it lacks a column, or a split or id in it is no plain name.
    """
    path = folder / MANIFEST
    try:
        # Only empty cells are missing: an image may be called NA or null.
        table = pd.read_csv(
            path, dtype=dict.fromkeys(NAMES, str), float_precision="round_trip", keep_default_na=False, na_values=[""]
        )
    except (OSError, ValueError, OverflowError) as error:
        raise RedoError(f"{path}: cannot be read as a manifest ({' '.join(str(error).split())})") from error
    missing = [name for name in NAMES if name not in table]
    if missing:
        raise RedoError(f"{path}: not a manifest of degraded images: there is no column {missing[0]!r}")
    broken = [name for name in table if str(name).splitlines() != [str(name)]]
    if broken:
        raise RedoError(f"{path}: not a manifest of degraded images: a column's name is {broken[0][:60]!r}")
    for column in ("split", "id"):  # the recipe of photos is their dataset's name: any text
        strange = [value for value in table[column] if not isinstance(value, str) or not _is_plain(value)]
        if strange:
            raise RedoError(f"{path}: {column}: expected the name of a file or folder, got {str(strange[0])[:60]!r}")
    return table


def _is_plain(name: str) -> bool:
    """Whether a name, as part of a path, leads nowhere else, and, as part of a message, leaves it one line."""
    return name.splitlines() == [name] and name not in (".", "..") and not {"/", "\\", "\0"} & set(name)


def main() -> None:
    """Command line: python -m pipeline.degrade --redo ID."""
    options = _options()
    clean = Dataset.open(options.clean)
    done = list(_redo_all(clean, options))
    if not done:
        raise RedoError(f"{options.redo}: in none of the manifests below {options.degraded}; ids are file names")
    for path, same in done:
        print(f"{path}: {'the same bytes' if same else 'NOT the same pixels'} as in {options.degraded}")


def _redo_all(clean: Dataset, options: argparse.Namespace) -> Iterator[tuple[Path, bool]]:
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
