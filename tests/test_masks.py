from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside_data import HEIGHT, WIDTH, picture, save
from outside_data import masks as write_camvid
from PIL import Image

from data.labels import DatasetError
from data.samples import FaultError
from data.sources.masks import Masks

CAMVID = Path(__file__).parents[1].parent / "shared" / "camvid"
CAMVID_CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"]
CAMVID_CLASSES += ["pedestrian", "bicyclist"]
SETTINGS: dict[str, Any] = {
    "name": "toy",
    "classes": ["road", "car"],
    "ignored": [7],
    "things": ["car"],
    "min_pixels": 20,
    "limit": {"train": None, "val": None},
}


def _mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:8, 4:10] = 1  # 36 pixels
    mask[8:12, 10:14] = 1  # touches the first at a corner: one component of 52 pixels
    mask[15:18, 30:33] = 1  # 9 pixels: too small for a box
    mask[0] = 7
    return mask


def _make(root: Path, mask: np.ndarray, **settings: Any) -> Masks:
    for split in ("train", "val"):
        save(root / split / "a.png", picture(0, len(split)))
        save(root / f"{split}annot" / "a.png", mask)
    return Masks(root, {**SETTINGS, **settings}, 0)


def _faults(source: Masks) -> list[str]:
    with pytest.raises(FaultError) as caught:
        source.sample("train", "a")
    return [f"{Path(fault.file).parent.name}/{Path(fault.file).name}: {fault.fault}" for fault in caught.value.faults]


def test_boxes_are_connected_components(tmp_path: Path) -> None:
    source = _make(tmp_path, _mask())
    sample = source.sample("train", "a")
    assert sample.boxes is not None and sample.mask is not None
    assert np.allclose(sample.boxes, [[0, 9 / WIDTH, 7 / HEIGHT, 10 / WIDTH, 10 / HEIGHT]])
    assert set(np.unique(sample.mask)) == {0, 1, 255}
    assert (sample.mask[0] == 255).all()
    assert source.split_ids() == {"train": ["a"], "val": ["a"]}


def test_an_unlisted_index_names_file_and_index(tmp_path: Path) -> None:
    mask = _mask()
    mask[5, 30:32] = 3
    text = "index 3 is neither one of the 2 classes nor in data.masks.ignored (2 pixels, 1 different)"
    assert _faults(_make(tmp_path, mask)) == [f"trainannot/a.png: class out of range: {text}"]


def test_other_faults_of_masks(tmp_path: Path) -> None:
    assert _faults(_make(tmp_path, _mask()[1:])) == [
        "trainannot/a.png: size differs: mask of 60 x 39, image of 60 x 40"
    ]
    source = _make(tmp_path, np.dstack([_mask()] * 3))
    assert np.array_equal(source.sample("train", "a").mask == 255, _mask() == 7)  # three equal channels are one
    source = _make(tmp_path, np.dstack([_mask(), _mask(), _mask() + 1]))
    assert _faults(source) == [
        "trainannot/a.png: unreadable mask: expected one channel of class indices up to 255, got RGB; "
        "list the colours of the classes in data.masks.colours"
    ]
    (tmp_path / "trainannot" / "a.png").write_bytes(b"\x89PNG")
    assert "unreadable mask: not a readable image" in _faults(source)[0]


def test_missing_masks_and_images_are_faults_and_missing_folders_errors(tmp_path: Path) -> None:
    source = _make(tmp_path, _mask())
    (tmp_path / "valannot" / "a.png").rename(tmp_path / "valannot" / "b.png")
    assert [fault.fault for fault in source.faults()] == [
        f"image without label: {tmp_path}/valannot/a.png is missing",
        f"label without image: none of its name in {tmp_path}/val",
    ]
    assert source.split_ids() == {"train": ["a"], "val": []}
    with pytest.raises(DatasetError, match=r"none of the folders .*/none/train, .*data\.masks\.layout"):
        Masks(tmp_path / "none", SETTINGS, 0).split_ids()


def test_unknown_thing() -> None:
    with pytest.raises(DatasetError, match=r"data\.masks\.things: there is no class bus\. Choose from road, car"):
        Masks(Path(), {**SETTINGS, "things": ["bus"]}, 0)


def test_classes_merge_and_drop(tmp_path: Path) -> None:
    source = _make(tmp_path, _mask(), map={"vehicle": ["car"]}, rest="other", things=["vehicle"])
    assert source.classes == {"detection": ["vehicle"], "segmentation": ["other", "vehicle"]}
    mask = source.sample("train", "a").mask
    assert mask is not None and mask[0, 0] == 255 and mask[3, 5] == 1 and mask[30, 30] == 0


def test_colour_coded_masks(tmp_path: Path) -> None:
    table = np.array([[128, 64, 128], [0, 0, 142], [0, 0, 0]], dtype=np.uint8)
    mask = _mask()
    mask[0] = 2
    colours = {"car": [0, 0, 142], "road": [128, 64, 128]}
    source = _make(tmp_path, table[mask], colours=colours, ignored_colours=[[0, 0, 0]])
    expected = np.where(mask == 2, 255, mask)
    assert np.array_equal(source.sample("train", "a").mask, expected)  # type: ignore[arg-type]
    # The same colours in a palette: indices mean nothing then.
    palette = Image.fromarray(table[mask]).quantize(3)
    palette.save(tmp_path / "trainannot" / "a.png")
    assert np.array_equal(source.sample("train", "a").mask, expected)  # type: ignore[arg-type]
    strange = table[mask]
    strange[20, 20] = [1, 2, 3]
    text = "colour [1, 2, 3] is in neither data.masks.colours nor ignored_colours (1 pixels, 1 different)"
    assert _faults(_make(tmp_path, strange, colours=colours, ignored_colours=[[0, 0, 0]])) == [
        f"trainannot/a.png: class out of range: {text}"
    ]
    with pytest.raises(DatasetError, match=r"data\.masks\.colours: differs from data\.masks\.classes in car"):
        Masks(Path(), {**SETTINGS, "colours": {"road": [1, 1, 1]}}, 0)


LAYOUTS: list[tuple[Mapping[str, Any], str, str]] = [
    (
        {"layout": "cityscapes", "labels": "labelIds"},
        "leftImg8bit/{split}/ulm/ulm_0_1_leftImg8bit.png",
        "gtFine/{split}/ulm/ulm_0_1_gtFine_labelIds.png",
    ),
    (
        {"layout": "acdc", "labels": "labelTrainIds", "conditions": ["fog", "night"]},
        "rgb_anon/fog/{split}/GOPR1/GOPR1_frame_1_rgb_anon.png",
        "gt/fog/{split}/GOPR1/GOPR1_frame_1_gt_labelTrainIds.png",
    ),
    (
        {
            "layout": {
                "images": "leftImg8bit_foggy/{split}",
                "masks": "gtFine/{split}",
                "image_ending": "_leftImg8bit_foggy_beta_0.02.png",
                "mask_ending": "_gtFine_labelTrainIds.png",
            }
        },
        "leftImg8bit_foggy/{split}/ulm/ulm_0_1_leftImg8bit_foggy_beta_0.02.png",
        "gtFine/{split}/ulm/ulm_0_1_gtFine_labelTrainIds.png",
    ),
]


@pytest.mark.parametrize(("settings", "image", "mask"), LAYOUTS, ids=["cityscapes", "acdc", "foggy cityscapes"])
def test_layouts(tmp_path: Path, settings: Mapping[str, Any], image: str, mask: str) -> None:
    for split in ("train", "val"):
        save(tmp_path / image.format(split=split), picture(0, len(split)))
        save(tmp_path / mask.format(split=split), _mask())
    if settings["layout"] == "acdc":
        with pytest.raises(DatasetError, match=r"rgb_anon/night/train: no such folder"):
            Masks(tmp_path, {**SETTINGS, **settings}, 0).split_ids()
        settings = {**settings, "conditions": ["fog"]}
    source = Masks(tmp_path, {**SETTINGS, **settings}, 0)
    ids = source.split_ids()
    assert set(ids) == {"train", "val"} and all(len(names) == 1 for names in ids.values())
    assert source.faults() == []
    boxes = source.sample("val", ids["val"][0]).boxes
    assert boxes is not None and len(boxes) == 1


def test_undivided_folders(tmp_path: Path) -> None:
    layout = {"images": "photos", "masks": "labels", "image_ending": "", "mask_ending": "_mask.png"}
    for index in range(4):
        save(tmp_path / "photos" / f"{index}.png", picture(0, index))
        save(tmp_path / "labels" / f"{index}_mask.png", _mask())
    source = Masks(tmp_path, {**SETTINGS, "layout": layout, "split": {"train": 0.5, "test": 0.5}}, 0)
    assert {split: len(names) for split, names in source.split_ids().items()} == {"train": 2, "test": 2}
    with pytest.raises(DatasetError, match=r"data\.masks\.split: missing"):
        Masks(tmp_path, {**SETTINGS, "layout": layout}, 0).split_ids()


def test_a_photo_on_its_side_is_read_as_its_mask_lies(tmp_path: Path) -> None:
    source = Masks(tmp_path, write_camvid(tmp_path), 0)
    stored = Image.fromarray(picture(0))
    exif = stored.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    stored.save(tmp_path / "train" / "0.png", exif=exif)
    sample = source.sample("train", "0")
    assert np.array_equal(sample.image, picture(0)) and sample.file is None
    (conversion,) = sample.conversions
    assert "kept as stored, because the labels give this size; if they" in conversion.fault
    assert conversion.fault.endswith("set data.masks.exif to upright")
    sideways = Image.fromarray(np.rot90(picture(0)).copy())
    sideways.save(tmp_path / "train" / "0.png", exif=exif)
    assert np.array_equal(source.sample("train", "0").image, picture(0))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/camvid is not here")
def test_camvid_counts() -> None:
    settings = {**SETTINGS, "name": "camvid", "ignored": [11], "classes": CAMVID_CLASSES, "min_pixels": 100}
    source = Masks(CAMVID, {**settings, "things": ["car", "pedestrian", "bicyclist"]}, 0)
    ids = source.split_ids()
    assert source.faults() == []
    assert {split: len(names) for split, names in ids.items()} == {
        split: len(list((CAMVID / split).iterdir())) for split in ids
    }
    pixels = np.zeros(256, np.int64)
    expected = np.zeros(256, np.int64)
    for name in ids["val"][::10]:
        sample = source.sample("val", name)
        assert sample.image.shape == (360, 480, 3) and sample.mask is not None
        pixels += np.bincount(sample.mask.ravel(), minlength=256)
        expected += np.bincount(np.asarray(Image.open(CAMVID / "valannot" / f"{name}.png")).ravel(), minlength=256)
    assert pixels[:11].tolist() == expected[:11].tolist() and pixels[255] == expected[11]
    assert pixels.sum() == expected[:12].sum()
