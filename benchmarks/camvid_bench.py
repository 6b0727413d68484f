"""Bench A of docs/explanation/results.md: CamVid's photos in its layout, divided by drives.

    python -m benchmarks.camvid_bench SOURCE OUT

SOURCE holds train, trainannot, val and valannot, OUT gets the same and test and testannot:

    test    the photos of SOURCE/train of the drive 0006R0, 1 per second; no other photo shows this drive
    train   the other photos of SOURCE/train, of the drives 0001TP and 0016E5, 1 per second
    val     SOURCE/val: one clip of the drive 0016E5, 15 frames per second. Nothing is reported on it
"""

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path

TEST_DRIVE = "0006R0"


def copy(source: Path, names: Iterable[str], target: Path) -> int:
    """Copy the photos of `names` and their masks, which lie in <source>annot, to <target> and <target>annot.

    Returns:
        The number of photos.
    """
    names = sorted(names)
    for suffix in ("", "annot"):
        folder = target.with_name(f"{target.name}{suffix}")
        folder.mkdir(parents=True)
        for name in names:
            shutil.copyfile(source.with_name(f"{source.name}{suffix}") / name, folder / name)
    return len(names)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    photos = {split: {path.name for path in (options.source / split).iterdir()} for split in ("train", "val")}
    test = {name for name in photos["train"] if name.startswith(TEST_DRIVE)}
    splits = {"train": ("train", photos["train"] - test), "val": ("val", photos["val"]), "test": ("train", test)}
    for split, (source, names) in splits.items():
        print(f"{split}: {copy(options.source / source, names, options.out / split)} photos")


if __name__ == "__main__":
    main()
