from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data import images
from data.manifest import DatasetError
from data.sources.masks import Masks

CAMVID = Path(__file__).parents[1].parent / "shared" / "camvid"
SETTINGS = {
    "name": "toy",
    "classes": ["road", "car"],
    "ignored": [7],
    "things": ["car"],
    "min_pixels": 20,
    "limit": {"train": None, "val": None},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str, np.ndarray], None]:
    def do(split: str, name: str, mask: np.ndarray) -> None:
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir(exist_ok=True)
        images.write_image(tmp_path / split / f"{name}.png", np.zeros((*mask.shape, 3), np.uint8))
        images.write_mask(tmp_path / f"{split}annot" / f"{name}.png", mask)

    return do


def _mask() -> np.ndarray:
    mask = np.zeros((20, 40), np.uint8)
    mask[2:8, 4:10] = 1  # 36 pixels
    mask[8:12, 10:14] = 1  # touches the first at a corner: one component of 52 pixels
    mask[15:18, 30:33] = 1  # 9 pixels: too small for a box
    mask[0] = 7
    return mask


def test_boxes_are_connected_components(tmp_path: Path, write: Callable[..., None]) -> None:
    write("train", "a", _mask())
    write("val", "b", _mask())
    source = Masks(tmp_path, SETTINGS, 0)
    sample = source.sample("train", "a")
    assert sample.boxes is not None and sample.mask is not None
    assert np.allclose(sample.boxes, [[0, 9 / 40, 7 / 20, 10 / 40, 10 / 20]])
    assert set(np.unique(sample.mask)) == {0, 1, 255}
    assert (sample.mask[0] == 255).all()
    assert source.split_ids() == {"train": ["a"], "val": ["b"]}


def test_an_unlisted_index_names_file_and_index(tmp_path: Path, write: Callable[..., None]) -> None:
    mask = _mask()
    mask[5, 30] = 3
    write("train", "a", mask)
    with pytest.raises(DatasetError, match=r"trainannot/a\.png: index 3 is neither"):
        Masks(tmp_path, SETTINGS, 0).sample("train", "a")


def test_missing_mask_and_missing_folder(tmp_path: Path, write: Callable[..., None]) -> None:
    write("train", "a", _mask())
    with pytest.raises(DatasetError, match="expected the folders train, trainannot and val or test"):
        Masks(tmp_path, SETTINGS, 0).split_ids()
    write("val", "b", _mask())
    (tmp_path / "valannot" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"valannot/b\.png: missing"):
        Masks(tmp_path, SETTINGS, 0).split_ids()


def test_unknown_thing() -> None:
    with pytest.raises(DatasetError, match=r"data\.masks\.things: bus not among the classes: road, car"):
        Masks(Path(), {**SETTINGS, "things": ["bus"]}, 0)


def test_limit_thins_evenly(tmp_path: Path, write: Callable[..., None]) -> None:
    for split in ("train", "val"):
        for index in range(9):
            write(split, f"{index}", _mask())
    source = Masks(tmp_path, {**SETTINGS, "limit": {"train": 3}}, 0)
    assert source.split_ids() == {"train": ["0", "4", "8"], "val": [str(i) for i in range(9)]}


@pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/camvid is not here")
def test_camvid_counts() -> None:
    settings = {
        "name": "camvid",
        "ignored": [11],
        "things": ["car", "pedestrian", "bicyclist"],
        "min_pixels": 100,
        "limit": {},
        "classes": [
            "sky",
            "building",
            "pole",
            "road",
            "pavement",
            "tree",
            "sign",
            "fence",
            "car",
            "pedestrian",
            "bicyclist",
        ],
    }
    source = Masks(CAMVID, settings, 0)
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == {
        split: len(list((CAMVID / split).iterdir())) for split in ids
    }
    sample = source.sample("val", ids["val"][0])
    assert sample.image.shape == (360, 480, 3)
    assert sample.boxes is not None and len(sample.boxes)
