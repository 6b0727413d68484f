"""Bench A of docs/explanation/results.md: CamVid's photos in its layout, every drive divided in time.

    python -m benchmarks.camvid_bench SOURCE OUT

SOURCE holds train, trainannot, val and valannot; photos of train follow each other by a second. OUT gets:

    test    the first 30 % of every drive in SOURCE/train
    train   the rest of every drive, after a gap of 5 photos that are not used
    val     SOURCE/val: one clip of 6.7 s. Nothing is reported on it
"""

import argparse
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

TEST_SHARE, GAP = 0.3, 5


def divide(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """File names <drive>_<frame>... as those to train on and those to test on, each in order."""
    train, test = list[str](), list[str]()
    for _, drive in groupby(sorted(names), key=lambda name: name.split("_")[0]):
        frames = list(drive)
        end = round(TEST_SHARE * len(frames))
        test += frames[:end]
        train += frames[end + GAP :]
    return train, test


def copy(source: Path, names: Iterable[str], target: Path) -> None:
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
    photos = {split: [path.name for path in (options.source / split).iterdir()] for split in ("train", "val")}
    train, test = divide(photos["train"])
    for split, source, names in (("train", "train", train), ("val", "val", photos["val"]), ("test", "train", test)):
        copy(options.source / source, names, options.out / split)
        print(f"{split}: {len(names)} photos")


if __name__ == "__main__":
    main()
