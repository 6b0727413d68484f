"""Bench B of docs/explanation/results.md: COCO photos to test on, and photos of streets beside others to train on.

    python -m benchmarks.coco_bench COCO STREETS OUT

COCO holds images and instances.json, and STREETS what benchmarks.camvid_bench wrote. OUT gets images, train.json,
val.json and test.json in COCO's format. Of eight COCO photos in the order of their names, five are for testing:

    test    80 of 128 COCO photos
    train   40 COCO photos, and every third of the photos in STREETS/train, without labels
    val     8 COCO photos and 8 of STREETS/test, on which the prior's denoising error is measured
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

Record = dict[str, Any]  # of a photo or label in COCO's format

FOR_TRAINING = (0, 3, 6)  # of eight neighbouring COCO photos
VAL_EVERY = 6  # of the COCO photos to train on, the first of every six is for validation
STREET_PHOTOS = {"train": ("train", slice(0, None, 3)), "val": ("test", slice(0, 80, 10))}  # split: folder, which


def divide(photos: list[Record]) -> dict[str, list[Record]]:
    """COCO's photos by split."""
    ordered = sorted(photos, key=lambda photo: str(photo["file_name"]))
    train = [photo for number, photo in enumerate(ordered) if number % 8 in FOR_TRAINING]
    test = [photo for number, photo in enumerate(ordered) if number % 8 not in FOR_TRAINING]
    val = train[::VAL_EVERY]
    return {"train": [photo for photo in train if photo not in val], "val": val, "test": test}


def describe(file: Path, number: int) -> Record:
    """The record of a photo without labels."""
    with Image.open(file) as photo:
        return {"id": number, "file_name": file.name, "width": photo.width, "height": photo.height}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path)
    parser.add_argument("streets", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    labels = json.loads((options.coco / "instances.json").read_text())
    first_id = 1 + max(photo["id"] for photo in labels["images"])
    (options.out / "images").mkdir(parents=True)
    for split, photos in divide(labels["images"]).items():
        ids = {photo["id"] for photo in photos}
        files = [options.coco / "images" / photo["file_name"] for photo in photos]
        if split in STREET_PHOTOS:
            folder, chosen = STREET_PHOTOS[split]
            streets = sorted((options.streets / folder).iterdir())[chosen]
            files += streets
            photos += [describe(file, number) for number, file in enumerate(streets, start=first_id)]
        for file in files:
            shutil.copyfile(file, options.out / "images" / file.name)
        annotations = [label for label in labels["annotations"] if label["image_id"] in ids]
        written = {"categories": labels["categories"], "images": photos, "annotations": annotations}
        (options.out / f"{split}.json").write_text(json.dumps(written))
        print(f"{split}: {len(photos)} photos, {len(annotations)} labels")


if __name__ == "__main__":
    main()
