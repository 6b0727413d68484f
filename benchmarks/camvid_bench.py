"""The photos behind docs/explanation/results-archive.md, in CamVid's layout, to choose settings on and to report on.

    python -m benchmarks.camvid_bench SOURCE OUT

SOURCE holds train, trainannot, val and valannot. The last fifth of every sequence of
training photos is set aside; the rest is what both sets train on:

    OUT/development   test = what was set aside; every setting is chosen here
    OUT/final         test = SOURCE's val; looked at once. val = what was set aside

Whole ends of sequences are set aside, since neighbouring frames show nearly the same.
"""

import argparse
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

SET_ASIDE = 5  # one in so many


def divide(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """File names <sequence>_<frame>... as those to train on and those set aside, each in order."""
    kept, aside = [], []
    for _, sequence in groupby(sorted(names), key=lambda name: name.split("_")[0]):
        frames = list(sequence)
        start = len(frames) - len(frames) // SET_ASIDE
        kept += frames[:start]
        aside += frames[start:]
    return kept, aside


def copy(source: Path, names: Sequence[str], target: Path) -> None:
    """Copy the photos of `names` and their masks, which lie in <source>annot, to <target> and <target>annot."""
    for suffix in ("", "annot"):
        folder = target.with_name(f"{target.name}{suffix}")
        folder.mkdir(parents=True)
        for name in names:
            shutil.copyfile(source.with_name(f"{source.name}{suffix}") / name, folder / name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    names = {split: [path.name for path in (options.source / split).iterdir()] for split in ("train", "val")}
    kept, aside = divide(names["train"])
    parts = {
        "development": {"train": ("train", kept), "test": ("train", aside)},
        "final": {"train": ("train", kept), "val": ("train", aside), "test": ("val", sorted(names["val"]))},
    }
    for root, splits in parts.items():
        for target, (split, chosen) in splits.items():
            copy(options.source / split, chosen, options.out / root / target)
        print(f"{options.out / root}: {', '.join(f'{len(chosen)} {name}' for name, (_, chosen) in splits.items())}")


if __name__ == "__main__":
    main()
