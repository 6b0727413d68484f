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

from PIL import Image

SPLIT_OF = ["train", "test", "test", "train", "test", "test", "train", "test"]  # of eight neighbouring COCO photos
STREETS = {"train": ("train", 3, None), "val": ("test", 10, 8)}  # split: folder, every n-th photo, at most so many


def coco_photos(photos: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    """The records of COCO's photos, divided. Every sixth photo of those to train on is for validation."""
    ordered = sorted(photos, key=lambda photo: str(photo["file_name"]))
    split = {name: [photo for n, photo in enumerate(ordered) if SPLIT_OF[n % 8] == name] for name in ("train", "test")}
    train = split["train"]
    return {
        "train": [photo for n, photo in enumerate(train) if n % 6],
        "val": train[::6],
        "test": split["test"],
    }


def street_photos(streets: Path, first_id: int) -> dict[str, list[tuple[Path, dict[str, object]]]]:
    """Files and records of the street photos of each split. Their ids count from `first_id`."""
    chosen = {}
    for split, (folder, step, limit) in STREETS.items():
        files = sorted((streets / folder).iterdir())[::step][:limit]
        chosen[split] = []
        for number, file in enumerate(files, start=first_id):
            width, height = Image.open(file).size
            record = {"id": number, "file_name": file.name, "width": width, "height": height}
            chosen[split].append((file, record))
    return chosen


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path)
    parser.add_argument("streets", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    labels = json.loads((options.coco / "instances.json").read_text())
    (options.out / "images").mkdir(parents=True)
    streets = street_photos(options.streets, 1 + max(photo["id"] for photo in labels["images"]))
    for split, photos in coco_photos(labels["images"]).items():
        files = [options.coco / "images" / str(photo["file_name"]) for photo in photos]
        files += [file for file, _ in streets.get(split, [])]
        for file in files:
            shutil.copyfile(file, options.out / "images" / file.name)
        ids = {photo["id"] for photo in photos}
        images = photos + [record for _, record in streets.get(split, [])]
        annotations = [label for label in labels["annotations"] if label["image_id"] in ids]
        written = {"categories": labels["categories"], "images": images, "annotations": annotations}
        (options.out / f"{split}.json").write_text(json.dumps(written))
        print(f"{split}: {len(images)} photos, {len(annotations)} labels")


if __name__ == "__main__":
    main()
