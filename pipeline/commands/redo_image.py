"""Command: make degraded images again from the manifest, and compare them with the stored ones.

    python -m pipeline.commands.redo_image ID --recipe fog

The manifest records everything that was drawn, so the pixels are the same whatever params.yaml says today.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data import images
from data.dataset import Dataset
from pipeline.datasets.degrading import MANIFEST, RedoError, read_manifest, redo_image
from pipeline.running.entry import run_command
from pipeline.settings.params import read_yaml

DAG = Path("dvc.yaml")


def redo_images(options: Namespace) -> Iterator[tuple[Path, bool]]:
    """Write the chosen degraded images; yields each file, and whether it has the pixels of the stored image.

    Raises:
        RedoError: a manifest is damaged, or a row cannot be made again.
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
    stages = read_yaml(DAG, hint="run in the project's root")["stages"] if DAG.exists() else {}
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
        raise RedoError(f"{options.image_id}: in none of the manifests below {options.degraded}. Ids are file names")
    for path, is_same in redone:
        print(f"{path}: {'the same bytes' if is_same else 'NOT the same pixels'} as in {options.degraded}")


if __name__ == "__main__":
    run_command(main)
