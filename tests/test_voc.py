from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside_data import HEIGHT, VOC_OBJECT, VOC_XML, WIDTH, index_mask
from outside_data import voc as write_voc
from PIL import Image

from data.labels import DatasetError
from data.samples import FaultError
from data.sources.voc import Voc

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>'


def _annotation(root: Path, split: int = 0) -> Path:
    return root / "VOC2012" / "Annotations" / f"2012_{split}0.xml"


def _faults(root: Path, settings: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(FaultError) as caught:
        Voc(root, settings, 0).sample("train", "2012_00")
    return [(Path(fault.file).name, fault.fault) for fault in caught.value.faults]


def test_boxes_are_counted_from_one_and_difficult_objects_ignored(tmp_path: Path) -> None:
    source = Voc(tmp_path, write_voc(tmp_path), 0)
    assert source.classes == {"detection": ["car", "dog"], "segmentation": ["background", "car", "dog"]}
    sample = source.sample("train", "2012_00")
    assert sample.boxes is not None and sample.ignored is not None and sample.mask is not None
    assert np.allclose(sample.boxes, [[0, 26 / WIDTH, 15 / HEIGHT, 12 / WIDTH, 10 / HEIGHT]])
    assert np.allclose(sample.ignored, [[1, 5 / WIDTH, 5 / HEIGHT, 10 / WIDTH, 10 / HEIGHT]])
    # The box of the XML is that of the mask's object.
    rows, columns = (sample.mask == 1).nonzero()
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (20, 10, 32, 20)


def test_the_border_is_ignored_and_palette_colours_mean_nothing(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    expected = index_mask()
    expected[0] = 255
    mask = Voc(tmp_path, settings, 0).sample("train", "2012_00").mask
    assert mask is not None and np.array_equal(mask, expected)
    with Image.open(tmp_path / "VOC2012" / "SegmentationClass" / "2012_00.png") as file:
        assert file.mode == "P"


def test_class_maps_for_boxes_and_masks(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    source = Voc(tmp_path, {**settings, "map": ["dog"]}, 0)
    assert source.classes == {"detection": ["dog"], "segmentation": ["dog"]}
    sample = source.sample("train", "2012_00")
    assert sample.boxes is not None and not len(sample.boxes) and (sample.mask == 255).all()  # type: ignore[union-attr]
    merged = {"background": ["background", "dog"], "vehicle": ["car"]}
    source = Voc(tmp_path, {**settings, "map": merged, "rest": "background"}, 0)
    assert source.classes == {"detection": ["vehicle"], "segmentation": ["background", "vehicle"]}
    boxes_only = Voc(tmp_path, {**settings, "masks": False}, 0)
    assert boxes_only.classes == {"detection": ["car", "dog"]} and boxes_only.sample("val", "2012_10").mask is None


def test_several_years_and_the_lists_of_one_class(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "car_train.txt").write_text("2012_00  1\n2012_01 -1\n2012_02  0\n")
    sets = {"train": ["VOC2012/car_train"], "test": ["VOC2012/val", "VOC2012/test"]}
    source = Voc(tmp_path, {**settings, "sets": sets}, 0)
    assert source.split_ids()["train"] == ["2012_00", "2012_02"] and len(source.split_ids()["test"]) == 4
    year = Voc(tmp_path / "VOC2012", {**settings, "sets": {"train": ["train"], "val": ["val"]}}, 0)
    assert len(year.split_ids()["train"]) == 3


OBJECTS = [
    (VOC_OBJECT.format(name="bus", difficult=0, box=(1, 1, 9, 9)), "class out of range: 'bus' is not among data.voc"),
    (VOC_OBJECT.format(name="car", difficult=0, box=(9, 1, 8, 9)), "box without area: (8, 0, 8, 9) in 60 x 40 pixels"),
    (VOC_OBJECT.format(name="car", difficult=0, box=(9, 1, 99, 9)), "box outside the image: (8, 0, 99, 9)"),
    (VOC_OBJECT.format(name="car", difficult=0, box=("x", 1, 9, 9)), "malformed box: xmin, ymin, xmax, ymax are"),
    ("<object><name>car</name></object>", "malformed box"),
]


@pytest.mark.parametrize(("entry", "text"), OBJECTS, ids=[text[:18] for _, text in OBJECTS])
def test_a_bad_object_is_named(tmp_path: Path, entry: str, text: str) -> None:
    settings = write_voc(tmp_path)
    good = VOC_OBJECT.format(name="car", difficult=0, box=(21, 11, 32, 20))
    _annotation(tmp_path).write_text(VOC_XML.format(objects=good + entry))
    ((file, fault),) = _faults(tmp_path, settings)
    assert file == "2012_00.xml: object 2" and text in fault


@pytest.mark.parametrize("text", [BOMB, '<?xml version="1.0" encoding="utf-7"?>' + BOMB])
def test_entities_are_refused(tmp_path: Path, text: str) -> None:
    settings = write_voc(tmp_path)
    _annotation(tmp_path).write_text(text)
    assert _faults(tmp_path, settings) == [("2012_00.xml", "unreadable label: XML with a document type is refused")]


def test_other_encodings_cannot_hide_a_document_type(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    _annotation(tmp_path).write_bytes(BOMB.encode("utf-16"))
    ((_, fault),) = _faults(tmp_path, settings)
    assert fault == "unreadable label: XML with a document type is refused"
    head = '<?xml version="1.0" encoding="cp037"?>'
    _annotation(tmp_path).write_bytes(head.encode() + BOMB.encode("cp037"))
    ((_, fault),) = _faults(tmp_path, settings)
    assert fault.startswith("unreadable label: ")
    _annotation(tmp_path).write_text("<annotation>")
    ((_, fault),) = _faults(tmp_path, settings)
    assert fault.startswith("unreadable label: no element found")


def test_all_faults_of_an_image_are_found_together(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    _annotation(tmp_path).write_text(VOC_XML.format(objects=OBJECTS[0][0]).replace("60", "50"))
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(tmp_path / "VOC2012" / "SegmentationClass" / "2012_00.png")
    faults = _faults(tmp_path, settings)
    assert [fault.partition(":")[0] for _, fault in faults] == [
        "size differs",
        "class out of range",
        "size differs",
        "class out of range",
    ]
    assert faults[-1] == ("2012_00.png", "class out of range: index 9; there are 0 to 2, and 255")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    settings = write_voc(tmp_path)
    base = tmp_path / "VOC2012"
    _annotation(tmp_path).unlink()
    (base / "SegmentationClass" / "2012_01.png").unlink()
    (base / "JPEGImages" / "2012_02.jpg").unlink()
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2012_10\n../../secret\n")
    source = Voc(tmp_path, settings, 0)
    assert source.split_ids() == {"train": [], "val": ["2012_10"], "test": ["2012_20", "2012_21"]}
    assert [(Path(fault.file).name, fault.fault.partition(" is ")[0]) for fault in source.faults()] == [
        ("2012_00.jpg", f"image without label: {base}/Annotations/2012_00.xml"),
        ("2012_01.jpg", f"image without label: {base}/SegmentationClass/2012_01.png"),
        ("2012_02.xml", f"label without image: {base}/JPEGImages/2012_02.jpg"),
        ("val.txt:2", "unusable entry: '../../secret' leads out of the folder"),
    ]
    with pytest.raises(DatasetError, match=r"ImageSets/Main/train\.txt: cannot be read .*Correct data\.voc\.sets"):
        Voc(tmp_path, {**settings, "lists": "Main"}, 0).split_ids()


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    from torchvision.datasets import VOCDetection, VOCSegmentation

    settings = write_voc(tmp_path / "VOCdevkit")
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets"
    (lists / "Main").symlink_to(lists / "Segmentation")
    source = Voc(tmp_path / "VOCdevkit", settings, 0)
    masks = VOCSegmentation(str(tmp_path), year="2012", image_set="train")
    annotations = VOCDetection(str(tmp_path), year="2012", image_set="train")
    names = source.split_ids()["train"]
    assert len(masks) == len(annotations) == len(names)
    for name, (image, mask), (_, entry) in zip(names, masks, annotations, strict=True):
        sample = source.sample("train", name)
        assert np.array_equal(sample.image, np.asarray(image))
        assert sample.mask is not None and np.array_equal(sample.mask, np.asarray(mask))
        box = {key: float(value) for key, value in entry["annotation"]["object"][0]["bndbox"].items()}
        expected = [box["xmin"] - 1, box["ymin"] - 1, box["xmax"], box["ymax"]]
        assert sample.boxes is not None
        _, x, y, w, h = sample.boxes[0] * (1, WIDTH, HEIGHT, WIDTH, HEIGHT)
        assert np.allclose([x - w / 2, y - h / 2, x + w / 2, y + h / 2], expected)
