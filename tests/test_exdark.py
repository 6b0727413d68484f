from pathlib import Path

import numpy as np
import pytest
from outside_data import HEIGHT, WIDTH, picture
from outside_data import exdark as write_exdark
from PIL import Image

from data.labels import DatasetError
from data.samples import FaultError
from data.sources.exdark import ExDark


def test_boxes_splits_and_classes(tmp_path: Path) -> None:
    source = ExDark(tmp_path, {**write_exdark(tmp_path), "map": [{"person": ["People"]}, {"cat": ["Cat"]}]}, 0)
    assert source.classes == {"detection": ["person", "cat"]}
    assert source.split_ids()["val"] == ["2015_20", "2015_21"]
    boxes = source.sample("val", "2015_20").boxes
    expected = [[1, 26 / WIDTH, 15 / HEIGHT, 12 / WIDTH, 10 / HEIGHT], [0, 2.5 / WIDTH, 4 / HEIGHT, 3 / WIDTH, 0.1]]
    assert boxes is not None and np.allclose(boxes, expected)


def test_photos_stay_as_stored(tmp_path: Path) -> None:
    source = ExDark(tmp_path, write_exdark(tmp_path), 0)
    image = Image.fromarray(picture(0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "ExDark" / "Cat" / "2015_20.JPG", exif=exif)
    assert source.sample("val", "2015_20").image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("Cow 1 2 3 4 0", "class out of range: 'Cow'; there are Bicycle, Boat"),
        ("Cat 1 2 3", "malformed label: 'Cat 1 2 3'; expected a class, left, top, width and height"),
        ("Cat 1 2 x 4", "malformed label"),
        ("Cat 50 2 30 4 0", "box outside the image: (50, 2, 80, 6) in 60 x 40 pixels"),
        ("Cat 50 2 0 4 0", "box without area"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, text: str) -> None:
    source = ExDark(tmp_path, write_exdark(tmp_path), 0)
    label = tmp_path / "ExDark_Annno" / "Cat" / "2015_20.jpg.txt"
    label.write_text(f"% bbGt version=3\n{row}\n")
    with pytest.raises(FaultError) as caught:
        source.sample("val", "2015_20")
    (fault,) = caught.value.faults
    assert fault.file == f"{label}:2" and text in fault.fault


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    settings = write_exdark(tmp_path)
    (tmp_path / "ExDark" / "Cat" / "2015_20.JPG").unlink()
    (tmp_path / "ExDark_Annno" / "Cat" / "2015_30.jpg.txt").rename(tmp_path / "ExDark_Annno" / "Cat" / "x.txt")
    with (tmp_path / "imageclasslist.txt").open("a") as file:
        file.write("2015_99.jpg 1 1 1 4\n")
    faults = ExDark(tmp_path, settings, 0).faults()
    assert [(Path(fault.file).name, fault.fault.partition(" is ")[0].partition(";")[0]) for fault in faults] == [
        ("imageclasslist.txt:9", "unusable entry: '2015_99.jpg 1 1 1 4'"),
        ("imageclasslist.txt:5", "label without image: no image, or several, have the name 2015_20.jpg"),
        ("2015_30.JPG", "image without label: no label, or several, have the name 2015_30.jpg.txt"),
        ("x.txt", "label without image: it"),
    ]
    with pytest.raises(DatasetError, match=r"photos: no such folder\. Correct data\.exdark\.images"):
        ExDark(tmp_path, {**settings, "images": "photos"}, 0).split_ids()
    (tmp_path / "imageclasslist.txt").unlink()
    with pytest.raises(DatasetError, match=r"imageclasslist\.txt: cannot be read .*data\.exdark\.list"):
        ExDark(tmp_path, settings, 0).split_ids()
