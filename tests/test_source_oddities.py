"""Situations from public bug reports, one test for each right value. tests/test_properties_sources.py mixes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from outside_data import COMMON, VOC_OBJECT, VOC_XML, picture, save
from PIL import Image

from data.dataset import Dataset
from data.labels import DatasetError
from data.photos import ORIENTATION, read_photo
from data.samples import FaultError
from data.sources import Source, load_source
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data
from tests.outside_data import HEIGHT, WIDTH

BOX = "0 0.5 0.5 0.2 0.5\n"
COCO_BOX = [24, 10, 12, 20]
SHARES = {"train": 0.5, "test": 0.5}


def _open(name: str, root: Path, settings: dict[str, Any]) -> Source:
    return load_source(name)(root, {"name": "odd", **settings}, 0, read_yaml=lambda path: json.loads(path.read_text()))


def _kinds(faults: Any) -> list[str]:
    return [f"{Path(fault.file).name}: {fault.fault.partition(':')[0]}" for fault in faults]


def _coco(root: Path, change: Callable[[dict[str, Any]], Any], count: int = 3, split: str = "train") -> dict[str, Any]:
    for number in range(count):
        save(root / split / f"{number}.png", picture(len(split), number))
    entry = {"category_id": 1, "bbox": COCO_BOX, "iscrowd": 0}
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(count)],
        "annotations": [{"id": n, "image_id": n, **entry} for n in range(count)],
        "categories": [{"id": 1, "name": "car"}],
    }
    change(content)
    (root / f"{split}.json").write_text(json.dumps(content))
    return {"files": {split: {"json": f"{split}.json", "images": split}}}


def test_coco_annotations_that_cannot_be_placed_leave_no_background(tmp_path: Path) -> None:
    source = _open("coco", tmp_path, _coco(tmp_path, lambda c: c["annotations"][0].update(image_id=None)))
    assert source.split_ids() == {"train": ["1", "2"]}
    assert _kinds(source.faults()) == ["train.json: annotations[0]: label without image", "0.png: image without label"]
    shifted = _coco(tmp_path, lambda c: [entry.update(image_id=entry["id"] + 50) for entry in c["annotations"]])
    assert _open("coco", tmp_path, shifted).split_ids() == {"train": []}
    removed = _coco(tmp_path, lambda c: c["annotations"][0].update(image_id=99))  # of an image that is not here
    assert _open("coco", tmp_path, removed).split_ids() == {"train": ["0", "1", "2"]}


def test_coco_entries_of_one_image_are_joined_before_splits_are_drawn(tmp_path: Path) -> None:
    def again(content: dict[str, Any]) -> None:
        other = {"category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
        content["images"] += [{**image, "id": 50 + image["id"]} for image in content["images"]]
        content["annotations"] += [{"id": 50 + n, "image_id": 50 + n, **other} for n in range(4)]

    files = _coco(tmp_path, again, 4)["files"]["train"]
    settings = {"files": {"all": files}, "split": SHARES}
    source = _open("coco", tmp_path, settings)
    assert _kinds(source.faults()) == [f"{n}.png: image listed twice" for n in range(4)]
    assert "set data.coco.repeats to merge" in source.faults()[0].fault
    merged = _open("coco", tmp_path, {**settings, "repeats": "merge"})
    samples = [merged.sample(split, name) for split, names in merged.split_ids().items() for name in names]
    assert len(samples) == 4 and all(sample.boxes is not None and len(sample.boxes) == 2 for sample in samples)
    assert merged.faults() == [] and len(merged.notes()) == 4


def test_coco_ids_that_several_images_or_classes_share(tmp_path: Path) -> None:
    def share(content: dict[str, Any]) -> None:
        content["images"][1]["id"] = content["annotations"][1]["image_id"] = 0

    source = _open("coco", tmp_path, _coco(tmp_path, share))
    assert source.split_ids() == {"train": ["2"]}
    assert [fault.fault for fault in source.faults()] == [
        f"unusable entry: id 0, '{n}.png'; several images have this id" for n in range(2)
    ]
    again = _open("coco", tmp_path, _coco(tmp_path, lambda c: c["images"].append(dict(c["images"][0]))))
    assert again.faults() == [] and len(again.split_ids()["train"]) == 3
    assert _kinds(again.notes()) == ["train.json: images[3]: image listed twice"]
    classes = _coco(tmp_path, lambda c: c["categories"].append({"id": 1.0, "name": "bus"}))
    with pytest.raises(DatasetError, match=r"train\.json: categories: 'car' and 'bus' have the id 1\. Correct one"):
        _open("coco", tmp_path, classes)


@pytest.mark.parametrize("names", [("1e5", "10e4"), ("9007199254740993", "9007199254740992.0"), ("inf", "nan")])
def test_coco_ids_that_only_look_alike_stay_different(tmp_path: Path, names: tuple[str, str]) -> None:
    def rename(content: dict[str, Any]) -> None:
        for number, name in enumerate(names):
            content["images"][number]["id"] = content["annotations"][number]["image_id"] = name
        content["annotations"][1]["bbox"] = [1, 1, 9, 9]

    source = _open("coco", tmp_path, _coco(tmp_path, rename, 2))
    boxes = [source.sample("train", name).boxes for name in ("0", "1")]
    assert source.faults() == [] and [None if rows is None else len(rows) for rows in boxes] == [1, 1]
    assert not np.array_equal(boxes[0], boxes[1])


def test_coco_sizes_of_0_are_unknown_and_empty_boxes_are_those_of_the_outline(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0].update(width=0, height=0)
        x, y, w, h = COCO_BOX
        content["annotations"][0].update(bbox=[], segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])

    files = _coco(tmp_path, change, 1)
    boxes = _open("coco", tmp_path, {**files, "masks": False}).sample("train", "0").boxes
    assert boxes is not None and np.allclose(boxes, [[0, 0.5, 0.5, 0.2, 0.5]])


def test_coco_classes_are_those_of_the_names_in_any_file(tmp_path: Path) -> None:
    train = _coco(tmp_path, lambda c: c["categories"].append({"id": 2, "name": "dog"}))
    val = _coco(tmp_path, lambda c: c.update(categories=[{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]), 3, "val")
    source = _open("coco", tmp_path, {"files": train["files"] | val["files"]})
    assert source.classes == {"detection": ["car", "dog", "cat"]}
    boxes = source.sample("val", "0").boxes
    assert boxes is not None and boxes[0, 0] == 2


@pytest.mark.parametrize("flat", [True, False])
def test_darknet_folders(tmp_path: Path, flat: bool) -> None:
    for split in ("train", "valid"):
        for number in range(2):
            place = tmp_path / "obj_train_data" if flat else tmp_path / split
            save(place / f"{split}{number}.JPG", picture(len(split), number))
            (place / f"{split}{number}.txt").write_text(BOX)
    (tmp_path / ("obj.names" if flat else "train/_darknet.labels")).write_text("car\n\n")
    save(tmp_path / "charts" / "results.png", picture(7))
    source = _open("yolo", tmp_path, {"split": SHARES} if flat else {})
    assert source.classes == {"detection": ["car"]} and source.faults() == []
    counts = {split: len(names) for split, names in source.split_ids().items()}
    assert counts == ({"train": 2, "test": 2} if flat else {"train": 2, "val": 2})
    assert "charts: folder not read" in _kinds(source.notes())


def test_darknet_lists_of_another_machine(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "obj_train_data" / f"{number}.png", picture(number))
        (tmp_path / "obj_train_data" / f"{number}.txt").write_text(BOX)
    (tmp_path / "obj.names").write_text("car\n")
    (tmp_path / "obj.data").write_text("classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/0.png\ndata/obj_train_data/2.png\n")
    source = _open("yolo", tmp_path, {})
    assert source.split_ids() == {"train": ["0", "2"]} and source.faults() == []
    assert {"1.png: picture not read", "1.txt: label not read"} <= set(_kinds(source.notes()))


def test_yolo_labels_of_other_formats_leave_no_background(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "images" / f"{number}.png", picture(number))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text(BOX)
    (tmp_path / "labels" / "1.xml").write_text("<annotation/>")
    (tmp_path / "data.yaml").write_text(json.dumps({"train": "images", "names": ["car"]}))
    source = _open("yolo", tmp_path, {})
    assert source.split_ids() == {"train": ["0", "2"]} and _kinds(source.faults()) == ["1.png: image without label"]


def test_yolo_labels_in_another_folder_leave_no_background(tmp_path: Path) -> None:
    for place in ("0", "cam1/5"):
        save(tmp_path / "Images" / "Train" / f"{place}.png", picture(len(place)))
        (tmp_path / "Labels" / "Train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "Labels" / "Train" / f"{Path(place).name}.txt").write_text(BOX)
    (tmp_path / "data.yaml").write_text(json.dumps({"train": "images/train", "names": ["car"]}))
    source = _open("yolo", tmp_path, {})
    assert source.split_ids() == {"train": ["0"]}
    assert _kinds(source.faults()) == ["5.txt: label without image", "5.png: image without label"]
    assert source.faults()[1].fault.endswith(f"put it into {tmp_path / 'Labels' / 'Train' / 'cam1'}")


def test_one_label_is_left_out_and_its_image_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        save(tmp_path / "in" / "images" / split / "a.png", picture(len(split)))
        (tmp_path / "in" / "labels" / split).mkdir(parents=True)
        (tmp_path / "in" / "labels" / split / "a.txt").write_text(f"{BOX}7 0.5 0.5 0.1 0.1\n0 0.5 0.5 0 0\n")
    (tmp_path / "in" / "data.yaml").write_text(json.dumps({"train": "images/train", "val": "images/val", "nc": 1}))
    given = {"source": "yolo", "root": "in", "yolo": {"name": "x"}}
    with pytest.raises(DatasetError, match="or to skip-labels to leave out these labels alone"):
        import_dataset(Data.model_validate(given), 0, Path("out"))
    import_dataset(Data.model_validate({**given, "faults": "skip-labels"}), 0, Path("out"))
    assert len(Dataset.open(Path("out")).split("train").boxes("a")) == 1
    assert (tmp_path / "out" / "faults.csv").read_text().count(",label left out\n") == 4


def test_voc_polygons_and_pictures_of_one_name(tmp_path: Path) -> None:
    for ending in ("bmp", "tif"):
        save(tmp_path / "photos" / f"a.{ending}", picture(len(ending)))
    polygon = "<polygon><x1>3</x1><y1>5</y1><x2>20</x2><y2>5</y2><x3>20</x3><y3>30</y3></polygon>"
    for number, outline in enumerate((polygon, polygon.replace("1>", ">").replace("2>", ">").replace("3>", ">"))):
        save(tmp_path / "photos" / f"b{number}.PNG", picture(number))
        text = VOC_XML.format(objects=f"<object><name>car</name>{outline}</object>")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"b{number}.xml").write_text(text)
    named = VOC_XML.format(objects=VOC_OBJECT.format(name="car", difficult=0, box=(1, 1, 9, 9)))
    (tmp_path / "labels" / "a.xml").write_text(named.replace("<size>", "<filename>C:\\x\\a.tif</filename><size>"))
    source = _open("voc", tmp_path, {"classes": ["car"], "split": SHARES})
    entries = {name: source.sample(split, name) for split, names in source.split_ids().items() for name in names}
    assert entries["a"].origin == tmp_path / "photos" / "a.tif"
    for name in ("b0", "b1"):
        boxes = entries[name].boxes
        assert boxes is not None and np.allclose(boxes[0, 3:] * (WIDTH, HEIGHT), (18, 26))
    assert _kinds(source.faults()) == ["a.bmp: image without label"]


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "utf-16", "gb2312", "UTF-8"])
def test_voc_files_in_the_encoding_that_they_declare(tmp_path: Path, encoding: str) -> None:
    name = "图" if encoding == "gb2312" else "é"
    objects = VOC_OBJECT.format(name=name, difficult=0, box=(21, 11, 32, 20))
    for stem, split in (("a", "trainval"), ("b", "test")):
        save(tmp_path / "JPEGImages" / f"{stem}.jpg", picture(len(split)))
        text = f'<?xml version="1.0" encoding="{encoding}"?>{VOC_XML.format(objects=objects)}'
        for folder, file, content in (
            ("Annotations", f"{stem}.xml", text.encode(encoding)),
            ("ImageSets/Main", f"{split}.txt", f"\ufeff{stem}\r\n".encode()),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / file).write_bytes(content)
    (tmp_path / "Annotations" / "c.xml").write_text("<annotation/>")
    source = _open("voc", tmp_path, {"classes": ["car", name]})
    assert source.split_ids() == {"train": ["a"], "test": ["b"]}
    assert _kinds(source.notes()) == ["c.xml: label not read"]
    boxes = source.sample("train", "a").boxes
    assert boxes is not None and np.allclose(boxes, [[1, 26 / WIDTH, 15 / HEIGHT, 12 / WIDTH, 10 / HEIGHT]])


def test_the_mask_with_the_ending_of_the_settings_is_read(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, endings in (("0", (".png", ".bmp")), ("1", (".gif", ".bmp"))):
        save(tmp_path / "images" / "train" / f"{name}.jpg", picture(int(name)))
        for value, ending in enumerate(endings):
            save(tmp_path / "masks" / "train" / f"{name}{ending}", mask + value)
    layout = {"images": "images/{split}", "masks": "masks/{split}", "image_ending": "", "mask_ending": ".png"}
    source = _open("masks", tmp_path, {"layout": layout, "classes": ["road", "car"], "things": [], "min_pixels": 1})
    assert source.split_ids() == {"train": ["0"]}
    assert [fault.fault for fault in source.faults()] == ["image without label: several masks have its name"]
    left = [f"1{ending}: picture not read" for ending in (".bmp", ".gif")]
    assert _kinds(source.notes()) == ["0.bmp: second label of an image", *left]
    read = source.sample("train", "0").mask
    assert read is not None and not read.any()


def test_masks_of_grey_values_say_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:9] = 255
    for split in ("train", "val"):
        save(tmp_path / "in" / split / "a.png", picture(len(split)))
        save(tmp_path / "in" / f"{split}annot" / "a.png", mask)
    settings: dict[str, Any] = {"name": "x", "classes": ["background", "road"], "things": [], "min_pixels": 1}
    with pytest.raises(FaultError, match=r"list them in data\.masks\.colours, such as \{road: \[255, 255, 255\]\}"):
        _open("masks", tmp_path / "in", settings).sample("train", "a")
    colours = {"background": [0, 0, 0], "road": [255, 255, 255]}
    read = _open("masks", tmp_path / "in", {**settings, "colours": colours}).sample("train", "a").mask
    assert read is not None and np.array_equal(read, mask == 255)
    data = {"source": "masks", "root": str(tmp_path / "in"), "masks": {**settings, "ignored": [255]}}
    import_dataset(Data.model_validate(data), 0, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "data.masks: no pixel of 'road' in any split, and 22.5% of all pixels are ignored" in printed
    rows = (tmp_path / "out" / "class_counts.csv").read_text().splitlines()
    assert {"segmentation,road,pixel,train,0", "segmentation,(ignored),pixel,val,540"} <= set(rows)


def test_folders_that_hold_the_same_folders_are_splits(tmp_path: Path) -> None:
    for index, name in enumerate(("a/cat/1.png", "a/dog/1.png", "b/cat/2.png", "b/dog/2.png")):
        save(tmp_path / name, picture(index))
    with pytest.raises(DatasetError, match=r"Rename it to train, val or test, or set data\.folders\.split"):
        _open("folders", tmp_path, COMMON).split_ids()
    source = _open("folders", tmp_path, {**COMMON, "split": SHARES})
    assert source.classes == {"classification": ["cat", "dog"]}
    assert {split: len(names) for split, names in source.split_ids().items()} == {"train": 2, "test": 2}


def test_folders_of_classes_that_hold_splits(tmp_path: Path) -> None:
    for number, (name, split) in enumerate((n, s) for n in ("cat", "dog") for s in ("Train", "Test")):
        save(tmp_path / name / split / "a" / "1.jpg", picture(number))
    source = _open("folders", tmp_path, COMMON)
    assert source.split_ids() == {
        "train": ["cat__Train__a__1", "dog__Train__a__1"],
        "test": ["cat__Test__a__1", "dog__Test__a__1"],
    }
    assert [source.sample("test", name).category for name in source.split_ids()["test"]] == [0, 1]
    drawn = _open("folders", tmp_path, {**COMMON, "split": SHARES})
    assert [note.fault for note in drawn.notes()] == [
        "splits of the files: all images are drawn anew; remove data.folders.split to keep test, train"
    ]
    assert _open("folders", tmp_path, {**COMMON, "map": ["dog"]}).split_ids() == {"train": ["1"], "test": ["1"]}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_rule_for_exif(tmp_path: Path, orientation: int) -> None:
    upright = picture(3)
    image = Image.fromarray(upright)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    stored, turned = upright, cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1]
    is_quarter = orientation > 4
    assert np.array_equal(read_photo(tmp_path / "a.png", exif="stored").pixels, stored)
    assert np.array_equal(read_photo(tmp_path / "a.png", exif="upright").pixels, turned)
    by_size = read_photo(tmp_path / "a.png", (WIDTH, HEIGHT))
    assert np.array_equal(by_size.pixels, stored if is_quarter else turned)
    doubts = [text for text in by_size.conversions if "in doubt" in text]
    assert len(doubts) == (orientation in (2, 3, 4))
    assert np.array_equal(read_photo(tmp_path / "a.png", (HEIGHT, WIDTH)).pixels, turned)


def test_levels_of_16_bit_images(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    for channels, name in ((codes, "colour.png"), (codes[:, :, 0], "grey.png"), (codes, "colour.tif")):
        cv2.imwrite(str(tmp_path / name), channels)
        dark = read_photo(tmp_path / name)
        assert dark.pixels.max() < 16 and "16-bit image of narrow range" in dark.conversions[0]
        bright = read_photo(tmp_path / name, levels=(0, 4095)).pixels
        expected = np.rint(channels / 4095 * 255)
        assert np.array_equal(bright[:, :, ::-1] if channels.ndim == 3 else bright[:, :, 0], expected)
