"""Each source on data with the oddities of public bug reports, drawn from seeds, against the format's own reader."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import cv2
import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as coco_masks
from PIL import Image

from data import photos
from data.labels import decode_mask
from data.sources import Source, load_source
from tests.outside_data import VOC_OBJECT, VOC_XML
from tests.properties import EXAMPLES

SEEDS = range(max(8, EXAMPLES // 8))
HEIGHT, WIDTH = 40, 56
ENDINGS = (".jpg", ".JPG", ".png", ".PNG", ".bmp", ".tif", ".webp", ".jpeg")
JUNK = (".DS_Store", "__MACOSX/._a.jpg", "Thumbs.db", ".ipynb_checkpoints/a.jpg", "README.md", "export.zip")
NAMES = ("car", "traffic light", "Fußgänger")
Rows = list[tuple[float, ...]]


def _open(name: str, root: Path, settings: dict[str, Any]) -> Source:
    return load_source(name)(root, {"name": "odd", **settings}, 0, read_yaml=lambda path: json.loads(path.read_text()))


def _picture(rng: np.random.Generator, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)


def _junk(rng: np.random.Generator, root: Path) -> None:
    for name in rng.choice(JUNK, 3, replace=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"junk")


def _box(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """left, top, width, height in whole pixels."""
    left, top = int(rng.integers(0, WIDTH - 9)), int(rng.integers(0, HEIGHT - 9))
    return left, top, int(rng.integers(2, WIDTH - left)), int(rng.integers(2, HEIGHT - top))


def _same(ours: np.ndarray | None, theirs: Rows) -> bool:
    assert ours is not None
    one, other = sorted(map(tuple, np.round(ours, 4).tolist())), sorted(tuple(np.round(row, 4)) for row in theirs)
    return len(one) == len(other) and np.allclose(np.reshape(one, (-1, 5)), np.reshape(other, (-1, 5)), atol=2e-4)


def _odd_id(rng: np.random.Generator, number: int) -> Any:
    return [number, float(number), str(number), f"{number}.0"][rng.integers(4)]


def _outline(rng: np.random.Generator, box: tuple[int, int, int, int], crowd: bool) -> Any:
    """A polygon or run lengths that cover a box."""
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + h, x : x + w] = 1
    if not crowd and rng.random() < 0.5:
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    code = coco_masks.encode(np.asfortranarray(mask))
    if rng.random() < 0.5:
        return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}
    ends = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=2))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(ends, prepend=0).tolist()}


def _coco_split(rng: np.random.Generator, root: Path, split: str) -> dict[str, Any]:
    """Pictures and a plain JSON content, which COCO's own reader accepts."""
    categories = [{"id": int(n), "name": name} for n, name in zip(rng.permutation(9)[:3], NAMES, strict=True)]
    images, annotations = [], []
    for number in range(4):
        name = f"a b/é{number}{rng.choice(ENDINGS)}"
        _picture(rng, root / "pictures" / split / name)
        images.append({"id": number + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for _ in range(int(rng.integers(0, 4))):
            crowd, box = bool(rng.random() < 0.2), _box(rng)
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "bbox": list(box), "iscrowd": int(crowd)}
            kind = int(rng.choice([category["id"] for category in categories]))
            annotations.append({**entry, "category_id": kind, "segmentation": _outline(rng, box, crowd), "area": 1})
    return {"images": images, "annotations": annotations, "categories": categories}


def _odd_coco(rng: np.random.Generator, plain: dict[str, Any], split: str) -> dict[str, Any]:
    """The same content as tools write it: ids of other types, paths of other machines, super-categories."""
    odd = copy.deepcopy(plain)
    for image in odd["images"]:
        image["id"] = _odd_id(rng, image["id"])
        image["width"] = _odd_id(rng, WIDTH)
        names = [f"/home/me/{split}/{image['file_name']}", f"C:\\x\\{image['file_name']}", quote(image["file_name"])]
        image["file_name"] = str(rng.choice([image["file_name"], *names]))
    for entry in odd["annotations"]:
        entry["image_id"], entry["category_id"] = _odd_id(rng, entry["image_id"]), _odd_id(rng, entry["category_id"])
        if rng.random() < 0.3:
            del entry["bbox"]
        if not entry["iscrowd"]:
            entry["iscrowd"] = [0, "0", False][rng.integers(3)]
    for category in odd["categories"]:
        category["id"], category["supercategory"] = _odd_id(rng, category["id"]), "things"
    odd["categories"].insert(0, {"id": 77, "name": "things", "supercategory": "none"})
    if rng.random() < 0.5:  # one picture under two ids: the second has no new objects
        first = odd["images"][0]
        odd["images"].append({**first, "id": 99})
        again = [entry for entry in odd["annotations"] if int(float(entry["image_id"])) == int(float(first["id"]))]
        odd["annotations"] += [{**entry, "id": 900 + number, "image_id": 99} for number, entry in enumerate(again)]
    return odd


@pytest.mark.parametrize("seed", SEEDS)
def test_coco_against_its_own_reader(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = {split: _coco_split(rng, tmp_path, split) for split in ("train", "val")}
    for split, content in plain.items():
        (tmp_path / f"{split}-plain.json").write_text(json.dumps(content))
        (tmp_path / f"{split}.json").write_text(json.dumps(_odd_coco(rng, content, split)))
        _junk(rng, tmp_path / "pictures" / split)
    files = {split: {"json": f"{split}.json", "images": f"pictures/{split}"} for split in plain}
    source = _open("coco", tmp_path, {"files": files})
    assert source.faults() == [] and sorted(source.classes["detection"]) == sorted(NAMES)
    names = source.classes["detection"]
    for split in plain:
        truth = COCO(str(tmp_path / f"{split}-plain.json"), print_function=lambda *_: None)
        ids = source.split_ids()[split]
        assert len(ids) == len(truth.imgs)
        for image_id in ids:
            sample = source.sample(split, image_id)
            image = next(i for i in truth.imgs.values() if f"é{image_id[-1]}." in i["file_name"])
            entries = truth.loadAnns(truth.getAnnIds(imgIds=[image["id"]]))
            rows: dict[int, Rows] = {0: [], 1: []}
            for entry in entries:
                x, y, w, h = entry["bbox"]
                index = names.index(truth.cats[entry["category_id"]]["name"])
                rows[entry["iscrowd"]].append((index, (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT))
            assert _same(sample.boxes, rows[0]) and _same(sample.ignored, rows[1])
            assert sample.instances is not None
            theirs = Counter(coco_masks.decode(truth.annToRLE(entry)).tobytes() for entry in entries)
            ours = Counter(decode_mask(i.counts, (HEIGHT, WIDTH)).tobytes() for i in sample.instances)
            assert theirs == ours


def _yolo_rows(rng: np.random.Generator, kind: str) -> list[str]:
    rows = []
    for _ in range(int(rng.integers(0, 4))):
        x, y, w, h = np.array(_box(rng)) / (WIDTH, HEIGHT, WIDTH, HEIGHT)
        corners = np.array([x, y, x + w, y, x + w, y + h, x, y + h])
        numbers = [x + w / 2, y + h / 2, w, h] if kind != "segment" else corners
        if kind == "pose":
            numbers = [*numbers, *np.column_stack([rng.random((4, 2)), rng.integers(0, 3, 4)]).ravel()]
        rows.append(" ".join([str(rng.integers(3)), *(f"{value:.6f}" for value in numbers)]))
    return rows + rows[:1] * int(rng.integers(2))  # a repeated row counts once


@pytest.mark.parametrize("kind", ["detect", "segment", "pose"])
@pytest.mark.parametrize("seed", SEEDS)
def test_yolo_against_ultralytics(tmp_path: Path, seed: int, kind: str) -> None:
    from ultralytics.data.utils import verify_image_label

    rng = np.random.default_rng(seed)
    expected: dict[str, Rows] = {}
    for split, folder in (("train", "Training"), ("val", "valid")):
        for number in range(5):
            name = f"Câmera {split} {number}"
            ending = str(rng.choice(ENDINGS))
            image = tmp_path / "images" / folder / f"{name}{ending}"
            _picture(rng, image)
            stem = str(rng.choice([name, quote(name), name.upper()]))
            place = str(rng.choice(["labels", "images"]))
            text = "\ufeff" * int(rng.integers(2)) + "\r\n".join(_yolo_rows(rng, kind)) + "\n" * int(rng.integers(3))
            for label in (tmp_path / place / folder / f"{stem}.txt", tmp_path / "reference" / f"{name}.txt"):
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(text, encoding="utf-8")
            points = (4, 3) if kind == "pose" else (0, 0)
            read = verify_image_label((str(image), str(label), "", kind == "pose", 3, *points, False))
            assert read[1] is not None, read[-1]
            expected[name.replace(" ", "_")] = [tuple(row) for row in read[1].tolist()]
        _junk(rng, tmp_path / "images" / folder)
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "classes.txt").write_text("\n".join(NAMES))
    listed = [path for path in (tmp_path / "images" / "Training").glob("C*") if path.suffix in ENDINGS]
    (tmp_path / "train.txt").write_text("".join(f"./{path.relative_to(tmp_path)}\n" for path in listed))
    content: dict[str, Any] = {"train": ["train.txt", "images/Training"][seed % 2], "valid": "images\\valid"}
    content["names"] = dict(enumerate(NAMES)) if seed % 3 else list(NAMES)
    content |= {"kpt_shape": [4, 3]} if kind == "pose" else {}
    (tmp_path / "data.yaml").write_text(json.dumps(content))
    source = _open("yolo", tmp_path, {"masks": kind == "segment"})
    assert source.faults() == []
    assert {split: len(ids) for split, ids in source.split_ids().items()} == {"train": 5, "val": 5}
    for split, ids in source.split_ids().items():
        for image_id in ids:
            sample = source.sample(split, image_id)
            assert _same(sample.boxes, expected[image_id]), image_id
            assert kind != "segment" or len(sample.instances or ()) == len(expected[image_id])


@pytest.mark.parametrize("layout", ["lists", "folders", "flat"])
@pytest.mark.parametrize("seed", SEEDS)
def test_voc_against_torchvision(tmp_path: Path, seed: int, layout: str) -> None:
    import xml.etree.ElementTree as ElementTree

    from torchvision.datasets import VOCDetection

    rng = np.random.default_rng(seed)
    base = tmp_path / "VOCdevkit" / "VOC2012"
    places = {
        "lists": ("JPEGImages", "Annotations"),
        "folders": ("{split}", "{split}"),
        "flat": ("photos", "labels"),
    }[layout]
    folders = {"train": "Train", "val": "valid"}
    expected: dict[str, ElementTree.Element] = {}
    for split, folder in folders.items():
        stems = [f"{split} {number}" for number in range(3)]
        for stem in stems:
            ending = str(rng.choice(ENDINGS))
            pictures, labels = (base / place.format(split=folder) for place in places)
            _picture(rng, pictures / f"{stem}{ending}")
            objects = ""
            for _ in range(int(rng.integers(0, 3))):
                x, y, w, h = _box(rng)
                corners = (x + 1, y + 1, x + w, y + h)
                objects += VOC_OBJECT.format(name=rng.choice(NAMES), difficult=int(rng.random() < 0.3), box=corners)
            text = VOC_XML.format(objects=objects).replace("60", str(WIDTH))
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{stem}.xml").write_text(text, encoding="utf-8")
            expected[stem.replace(" ", "_")] = ElementTree.fromstring(text)
        if layout == "lists":
            (base / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
            (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    _junk(rng, base)
    shares = {"train": 0.5, "val": 0.5} if layout == "flat" else None
    source = _open("voc", base, {"classes": list(NAMES), "split": shares})
    assert source.faults() == []
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == {"train": 3, "val": 3}
    for split, names in ids.items():
        for image_id in names:
            sample = source.sample(split, image_id)
            rows: dict[str, Rows] = {"0": [], "1": []}
            parsed = VOCDetection.parse_voc_xml(expected[image_id])["annotation"]
            for entry in parsed.get("object", []):
                box = {key: int(value) for key, value in entry["bndbox"].items()}
                w, h = box["xmax"] - box["xmin"] + 1, box["ymax"] - box["ymin"] + 1
                centre = (box["xmin"] - 1 + w / 2) / WIDTH, (box["ymin"] - 1 + h / 2) / HEIGHT
                rows[entry["difficult"]].append((NAMES.index(entry["name"]), *centre, w / WIDTH, h / HEIGHT))
            assert _same(sample.boxes, rows["0"]) and _same(sample.ignored, rows["1"])


@pytest.mark.parametrize("seed", SEEDS)
def test_exdark_against_its_own_rows(tmp_path: Path, seed: int) -> None:
    """ExDark has no reader in Python: the rows are bbGt's, and Pillow reads the pixels as stored."""
    from data.sources.exdark import CLASSES

    rng = np.random.default_rng(seed)
    expected: dict[tuple[str, str], tuple[np.ndarray, dict[int, Rows]]] = {}
    listed = ["Name | Class | Light | In/Out | Train/Val/Test"] * int(rng.integers(2))
    for number, split in enumerate(("train", "val", "test") * 3):
        name, folder = f"2015 é{number}".replace(" ", "_" if number % 2 else "%20"), str(rng.choice(CLASSES))
        image = tmp_path / "ExDark" / folder / f"{name}{rng.choice(ENDINGS)}"
        image.parent.mkdir(parents=True, exist_ok=True)
        stored = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        exif = stored.getexif()
        exif[photos.ORIENTATION] = int(rng.integers(1, 9))
        stored.save(image, **({"exif": exif} if image.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else {}))
        boxes: dict[int, Rows] = {0: [], 1: []}
        lines = ["% bbGt version=3"]
        for _ in range(int(rng.integers(0, 4))):
            kind, (x, y, w, h), ignored = int(rng.integers(len(CLASSES))), _box(rng), int(rng.random() < 0.2)
            lines.append(f"{CLASSES[kind]} {x} {y} {w} {h} 0 0 0 0 0 {ignored} 0")
            boxes[ignored].append((kind, (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT))
        spelling = str(rng.choice([image.name, image.name.lower(), unquote(image.name), image.name.upper()]))
        label = tmp_path / "ExDark_Annno" / folder / f"{spelling}{rng.choice(['.txt', '.TXT'])}"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\ufeff" * int(rng.integers(2)) + "\r\n".join(lines) + "\n" * int(rng.integers(3)), "utf-8")
        spelling = str(rng.choice([image.name, image.name.lower(), unquote(image.name), quote(unquote(image.name))]))
        listed.append(f"{spelling} 1 {rng.integers(1, 11)} 1 {('train', 'val', 'test').index(split) + 1}")
        with Image.open(image) as file:  # of these formats Pillow turns none but TIFF, which has no EXIF here
            expected[split, f"é{number}"] = np.asarray(file), boxes
        _junk(rng, image.parent)
    (tmp_path / "imageclasslist.txt").write_text("\r\n".join(listed) + "\r\n\r\n", "utf-8")
    _picture(rng, image.parent / "not-listed.jpg")
    source = _open("exdark", tmp_path, {"map": None})
    assert source.faults() == [] and any(note.file.endswith("not-listed.jpg") for note in source.notes())
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == {"train": 3, "val": 3, "test": 3}
    for (split, end), (pixels, boxes) in expected.items():
        (image_id,) = (name for name in ids[split] if name.endswith(end))
        sample = source.sample(split, image_id)
        assert np.array_equal(sample.image, pixels)
        assert _same(sample.boxes, boxes[0]) and _same(sample.ignored, boxes[1])


def _write_mask(rng: np.random.Generator, path: Path, mask: np.ndarray) -> Path:
    """One of the ways in which tools store class indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    way = int(rng.integers(5))
    if way == 0:
        stored = Image.fromarray(mask).convert("P")
        stored.putpalette(rng.integers(0, 256, 768).tolist())
        stored.putdata(mask.ravel().tolist())
    elif way == 1:
        stored = Image.fromarray(np.dstack([mask] * 3))
    elif way == 2:
        stored = Image.fromarray(mask.astype(np.uint16))
    elif way == 3:
        stored = Image.fromarray(np.dstack([mask, np.full_like(mask, 255)]))
    else:
        stored = Image.fromarray(mask)
    stored.save(path)
    return path


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_against_pillow(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spellings = {"train": "Training", "val": "valid", "test": "TEST"}
    beside = seed % 2 == 1
    expected: dict[tuple[str, str], np.ndarray] = {}
    for split, folder in spellings.items():
        for number in range(3):
            name = f"é {number}"
            _picture(rng, tmp_path / "photos" / folder / f"{name}{rng.choice(ENDINGS)}")
            mask = rng.integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
            mask[0, :5] = 255
            stem = str(rng.choice([name, quote(name), name.upper()]))
            place = "photos" if beside else "masks"
            _write_mask(rng, tmp_path / place / folder / f"{stem}_mask.png", mask)
            expected[split, name.replace(" ", "_")] = mask
        _junk(rng, tmp_path / "photos" / folder)
    layout = {"images": "photos/{split}", "masks": ("photos" if beside else "masks") + "/{split}"}
    layout |= {"image_ending": "", "mask_ending": "_mask.png"}
    classes = {"classes": list(NAMES), "things": ["car"], "min_pixels": 1, "ignored": [255]}
    source = _open("masks", tmp_path, {"layout": layout, **classes})
    assert source.faults() == []
    assert {(split, image_id) for split, ids in source.split_ids().items() for image_id in ids} == set(expected)
    for (split, image_id), mask in expected.items():
        sample = source.sample(split, image_id)
        assert sample.mask is not None and np.array_equal(sample.mask, mask)
        count, _, stats, _ = cv2.connectedComponentsWithStats((mask == 0).astype(np.uint8), connectivity=8)
        assert sample.boxes is not None and len(sample.boxes) == count - 1
        boxes = [(0, (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT) for x, y, w, h, _ in stats[1:]]
        assert _same(sample.boxes, boxes)


@pytest.mark.parametrize("seed", SEEDS)
def test_folders_against_torchvision(tmp_path: Path, seed: int) -> None:
    from torchvision.datasets import ImageFolder

    rng = np.random.default_rng(seed)
    spellings = [("train", "Training"), ("val", "Validation"), ("test", "TESTING")][: 2 + seed % 2]
    root = tmp_path / "archive" if seed % 3 else tmp_path  # a download often holds one folder
    for _, folder in spellings:
        for name in NAMES:
            for number in range(int(rng.integers(1, 4))):
                _picture(rng, root / folder / name / f"{number}{ENDINGS[number]}")
    expected = {split: ImageFolder(str(root / folder)) for split, folder in spellings}
    for _, folder in spellings:
        _junk(rng, root / folder / NAMES[0])
    source = _open("folders", tmp_path, {})
    assert source.faults() == [] and list(source.split_ids()) == list(expected)
    for split, theirs in expected.items():
        assert source.classes["classification"] == theirs.classes
        ours = [source.sample(split, image_id).category for image_id in source.split_ids()[split]]
        assert Counter(ours) == Counter(theirs.targets)


def _formats() -> list[tuple[str, str, dict[str, Any]]]:
    """(mode, ending, how Pillow saves it)."""
    colour = [
        (mode, ending, {}) for mode in ("RGB", "L") for ending in (".png", ".bmp", ".tif", ".webp", ".jp2", ".ppm")
    ]
    lossy = [("RGB", ".jpg", {"quality": 95}), ("L", ".jpg", {}), ("CMYK", ".jpg", {}), ("RGB", ".avif", {})]
    other = [("RGBA", ".png", {}), ("LA", ".png", {}), ("P", ".png", {}), ("1", ".png", {}), ("P", ".gif", {})]
    wrong = [("RGB", ".jpg", {"format": name}) for name in ("PNG", "WEBP", "BMP", "TIFF")]
    return [*colour, *lossy, *other, *wrong, ("RGB", ".jfif", {"format": "JPEG"}), ("RGB", ".JPG", {"format": "MPO"})]


@pytest.mark.parametrize(("mode", "ending", "how"), _formats(), ids=str)
def test_photos_against_opencv(tmp_path: Path, mode: str, ending: str, how: dict[str, Any]) -> None:
    """Every format and mode, stored in each of the eight EXIF orientations where the format has them."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert(mode)
    has_exif = ending in (".jpg", ".jfif", ".JPG", ".webp", ".png") and how.get("format") not in ("BMP", "TIFF", "MPO")
    for orientation in range(1, 9) if has_exif else (1,):
        exif = image.getexif()
        exif[photos.ORIENTATION] = orientation
        path = tmp_path / f"{orientation}{ending}"
        image.save(path, **how, **({"exif": exif} if has_exif else {}))
        theirs = cv2.imread(str(path))
        assert theirs is not None and photos.is_picture(path)
        ours = photos.read_photo(path, exif="upright").pixels
        assert ours.shape == theirs.shape
        assert np.abs(ours[:, :, ::-1].astype(int) - theirs).max() <= (3 if mode == "CMYK" else 1), orientation
