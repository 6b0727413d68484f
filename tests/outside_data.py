"""Small data sets for every source, for the tests; their pictures are noise, all different."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from data.sources import Source, load_source

HEIGHT, WIDTH = 40, 60
COUNTS = {"train": 3, "val": 2, "test": 2}
COMMON: dict[str, Any] = {"name": "toy", "split": None, "map": None, "limit": {}}
VOC_XML = """<annotation><size><width>60</width><height>40</height><depth>3</depth></size>{objects}</annotation>"""
VOC_OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part></object>"
)


def open_source(name: str, root: Path, settings: dict[str, Any], seed: int = 0, trust_paths: bool = True) -> Source:
    """A source; of YOLO, `settings` may have what its YAML file says as `content`."""
    section = {key: value for key, value in settings.items() if key != "content"}
    content = settings.get("content")
    return load_source(name)(root, section, seed, trust_paths=trust_paths, read_yaml=lambda path: content)


def picture(*seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def index_mask() -> np.ndarray:
    """Class 0, with a block of class 1 (12 x 10 pixels) and a first row that is ignored (7)."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 20:32] = 1
    mask[0] = 7
    return mask


def coco(root: Path) -> dict[str, Any]:
    """A polygon (20, 10) to (32, 20), a crowd as run lengths, and a smaller object inside the first one."""
    crowd = [HEIGHT * 40, HEIGHT * 10, HEIGHT * 10]  # columns 40 to 49
    for number, (split, count) in enumerate(COUNTS.items()):
        images, annotations = [], []
        for index in range(count):
            image = number * 100 + index
            save(root / split / "sub" / f"{index}.jpg", picture(1, number, index))
            images.append({"id": image, "file_name": f"sub/{index}.jpg", "width": WIDTH, "height": HEIGHT})
            for kind, box, segmentation in (
                (18, [24, 12, 4, 4], [[24, 12, 28, 12, 28, 16, 24, 16]]),
                (3, [20, 10, 12, 10], [[20, 10, 32, 10, 32, 20, 20, 20]]),
                (3, [40, 0, 10, 40], {"size": [HEIGHT, WIDTH], "counts": crowd}),
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": kind,
                        "bbox": box,
                        "segmentation": segmentation,
                        "iscrowd": int(isinstance(segmentation, dict)),
                    }
                )
        categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / f"{split}.json").write_text(text)
    files = {split: {"json": f"{split}.json", "images": split} for split in COUNTS}
    return {**COMMON, "files": files, "masks": True, "rest": "background", "category": True}


def yolo(root: Path) -> dict[str, Any]:
    """Polygons; one image of each split has no label file."""
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            save(root / "images" / split / f"{index}.png", picture(2, number, index))
            label = root / "labels" / split / f"{index}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            if index:
                label.write_text("1 0.5 0.25 0.75 0.25 0.75 0.5 0.5 0.5\n0 0 0 0.1 0 0.1 0.2\n")
    content = {"path": ".", **{split: f"images/{split}" for split in COUNTS}, "names": {0: "cat", 1: "dog"}}
    return {**COMMON, "project": "data.yaml", "content": content, "masks": True, "rest": "background"}


def voc(root: Path) -> dict[str, Any]:
    """A car (21, 11) to (32, 20), and a dog that is difficult."""
    for folder in ("Annotations", "ImageSets/Segmentation", "SegmentationClass"):
        (root / "VOC2012" / folder).mkdir(parents=True, exist_ok=True)
    base = root / "VOC2012"
    for number, (split, count) in enumerate(COUNTS.items()):
        names = [f"2012_{number}{index}" for index in range(count)]
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for index, name in enumerate(names):
            save(base / "JPEGImages" / f"{name}.jpg", picture(3, number, index))
            objects = VOC_OBJECT.format(name="car", difficult=0, box=(21, 11, 32, 20))
            objects += VOC_OBJECT.format(name="dog", difficult=1, box=(1, 1, 10, 10))
            (base / "Annotations" / f"{name}.xml").write_text(VOC_XML.format(objects=objects))
            mask = index_mask()
            mask[0] = 255
            palette = Image.fromarray(mask).convert("P")
            palette.putpalette([value % 256 for value in range(768)])
            palette.putdata(mask.ravel().tolist())
            palette.save(base / "SegmentationClass" / f"{name}.png")
    sets = {split: [f"VOC2012/{split}"] for split in COUNTS}
    return {**COMMON, "sets": sets, "lists": "Segmentation", "classes": ["car", "dog"], "masks": True, "rest": None}


def exdark(root: Path) -> dict[str, Any]:
    """Two objects for each image; the case of the names differs, as it does in the original."""
    lines = ["Name | Class | Light | In/Out | Train/Val/Test"]
    for number, (_, count) in enumerate(COUNTS.items(), start=1):
        for index in range(count):
            name = f"2015_{number}{index}"
            save(root / "ExDark" / "Cat" / f"{name}.JPG", picture(5, number, index))
            label = root / "ExDark_Annno" / "Cat" / f"{name}.jpg.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            rows = ["% bbGt version=3", "Cat 20 10 12 10 0 0 0 0 0 0 0", "People 1 2 3 4 0 0 0 0 0 0 0"]
            label.write_text("\n".join(rows) + "\n")
            lines.append(f"{name}.jpg 6 2 1 {number}")
    (root / "imageclasslist.txt").write_text("\n".join(lines) + "\n")
    return {**COMMON, "images": "ExDark", "labels": "ExDark_Annno", "list": "imageclasslist.txt"}


def folders(root: Path) -> dict[str, Any]:
    """Two classes; a third one has images of the training split alone."""
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            name = ("cat", "dog", "eel")[index]
            save(root / split / name / f"{index}.jpg", picture(6, number, index))
    return dict(COMMON)


def masks(root: Path) -> dict[str, Any]:
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            save(root / split / f"{index}.png", picture(4, number, index))
            save(root / f"{split}annot" / f"{index}.png", index_mask())
    return {**COMMON, "classes": ["road", "car"], "ignored": [7], "things": ["car"], "min_pixels": 20}


def scenes(root: Path) -> dict[str, Any]:
    return {"width": 64, "height": 64, **COUNTS}


def bgr(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path)))


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "coco": coco,
    "exdark": exdark,
    "folders": folders,
    "masks": masks,
    "scenes": scenes,
    "voc": voc,
    "yolo": yolo,
}
