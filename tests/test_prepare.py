"""Stage prepare on good and on bad data: every fault is put into real files, and found with all the others."""

import csv
import hashlib
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside_data import COUNTS, WRITERS, index_mask, masks, picture, save
from PIL import Image

from data.dataset import Dataset, DatasetError
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data
from pipeline.settings.params import ParamsError, load_params

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.tiny.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data lie in "in"; what prepare writes beside its output, it writes here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def _prepare(source: str, folder: Path, settings: dict[str, Any], policy: str = "error") -> Dataset:
    given = {"source": source, "root": str(folder), "faults": policy, source: settings}
    import_dataset(Data.model_validate(given), 0, Path("out"))
    return Dataset.open(Path("out"))


def _table(path: str) -> list[tuple[str, str, str]]:
    with Path(path).open() as file:
        rows = list(csv.DictReader(file))
    return [(Path(row["file"]).name, row["fault"], row["action"]) for row in rows]


def _write(name: str, folder: Path) -> dict[str, Any]:
    settings = WRITERS[name](folder)
    if name == "yolo":
        (folder / "data.yaml").write_text(json.dumps(settings.pop("content")))
    return settings


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_source_becomes_a_dataset(folder: Path, name: str) -> None:
    dataset = _prepare(name, folder, _write(name, folder))
    assert dataset.info.splits == COUNTS and _table("out/faults.csv") == []
    for split in COUNTS:
        opened = dataset.split(split)
        for sample in opened.ids:
            assert opened.image(sample).ndim == 3
            if "detection" in dataset.info.classes:
                assert opened.boxes(sample).shape[1] == 5


def test_the_same_data_give_the_same_files(folder: Path) -> None:
    settings = {**masks(folder), "split": {"train": 0.5, "test": 0.5}}
    digests = []
    for _ in range(2):
        _prepare("masks", folder, settings)
        files = sorted(path for path in Path("out").rglob("*") if path.is_file())
        digests.append([(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]


def test_data_to_train_on_need_two_splits(folder: Path) -> None:
    settings = _write("voc", folder)
    settings["sets"] = {"test": settings["sets"]["test"]}
    assert _prepare("voc", folder, settings).info.splits == {"test": 2}
    data = Data.model_validate({"source": "voc", "root": str(folder), "voc": settings})
    with pytest.raises(DatasetError, match="expected the splits train and val or test, got test"):
        import_dataset(data, 0, Path("out"), ["detection"])


def test_png_files_are_copied_and_never_linked(folder: Path) -> None:
    settings = masks(folder)
    original = folder / "train" / "0.png"
    original.chmod(0o444)
    before = original.read_bytes()
    _prepare("masks", folder, settings)
    copy = Path("out/train/images/0.png")
    assert copy.read_bytes() == before and not copy.is_symlink()
    assert copy.stat().st_ino != original.stat().st_ino and original.stat().st_nlink == 1
    assert copy.stat().st_mode & stat.S_IWUSR
    copy.chmod(0o400)  # as DVC does to what it has cached
    copy.unlink()
    assert original.read_bytes() == before and stat.S_IMODE(original.stat().st_mode) == 0o444


def _spoil(folder: Path) -> dict[str, Any]:
    """CamVid's layout with one fault of every kind; 5 + 4 + 3 images, of which 2 + 2 + 3 stay."""
    settings = masks(folder)
    for split, names in (("train", "abcdefg"), ("val", "hijk"), ("test", "l")):
        for name in names:
            save(folder / split / f"{name}.png", picture(5, ord(name)))
            save(folder / f"{split}annot" / f"{name}.png", index_mask())
    train = folder / "train"
    (train / "a.png").write_bytes((train / "a.png").read_bytes()[:2000])  # truncated
    (train / "b.png").write_text("no image")
    save(folder / "trainannot" / "c.png", index_mask()[:-1])  # another size
    save(folder / "trainannot" / "d.png", index_mask() + 40)  # no such class
    (folder / "trainannot" / "e.png").unlink()
    (train / "f.png").unlink()
    shutil.copyfile(folder / "val" / "h.png", train / "g.png")  # one picture under two names
    Image.fromarray(picture(6)).convert("L").save(folder / "val" / "i.png")
    Image.fromarray(picture(7)).convert("RGBA").save(folder / "val" / "j.png")
    Image.fromarray(picture(8)[:, :, 0].astype(np.uint16) * 256).save(folder / "val" / "k.png")
    (folder / "test" / "l.png").unlink()
    Image.fromarray(picture(9)).convert("CMYK").save(folder / "test" / "l.jpg")
    return settings


SPOILT = [
    ("a.png", "unreadable image: not a readable image (image file is truncated"),
    ("b.png", "unreadable image: not a readable image (not an image of a known format)"),
    ("c.png", "size differs: mask of 60 x 39, image of 60 x 40"),
    ("d.png", "class out of range: index 40 is neither one of the 2 classes nor in data.masks.ignored"),
    ("e.png", "image without label: "),
    ("f.png", "label without image: none of its name in "),
    ("g", "same picture in two splits: val/h has the same pixels"),
    ("i.png", "grey image: copied to three channels"),
    ("j.png", "image with transparency: its alpha channel is dropped"),
    ("k.png", "16-bit image: the upper 8 bits are kept"),
    ("k.png", "grey image: copied to three channels"),
    ("l.jpg", "CMYK image: converted to RGB"),
]


def _check_table(rows: list[tuple[str, str, str]], action: str) -> None:
    assert len(rows) == len(SPOILT)
    for (file, text), row in zip(SPOILT, sorted(rows), strict=True):
        assert row[0] == file and row[1].startswith(text)
        assert row[2] == ("converted" if file[0] in "ijkl" else action)


def test_all_faults_are_found_at_once_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = _spoil(folder)
    with pytest.raises(DatasetError) as caught:
        _prepare("masks", folder, settings)
    message = str(caught.value)
    assert "7 faults (2 x unreadable image, " in message and "\n" not in message
    assert "all listed in work/faults.csv. Repair the files, or set data.faults to skip" in message
    assert not Path("out").exists() and not list(Path("work").rglob("*.png"))
    _check_table(_table("work/faults.csv"), "none: repair the file")
    assert f"{folder}/train/b.png: unreadable image" in capsys.readouterr().out


def test_bad_images_are_left_out_and_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = _spoil(folder)
    dataset = _prepare("masks", folder, settings, "skip")
    assert dataset.info.splits == {"train": 3, "val": 6, "test": 3}
    for split, count in dataset.info.splits.items():
        for kind in ("images", "labels", "masks"):
            assert len(list((dataset.folder / split / kind).iterdir())) == count
    assert np.array_equal(dataset.split("val").image("k")[:, :, 0], picture(8)[:, :, 0])
    _check_table(_table("out/faults.csv"), "left out")
    printed = capsys.readouterr().out
    assert "prepare: left out: 2 x unreadable image" in printed
    assert "prepare: converted: 2 x grey image" in printed and "out/faults.csv" in printed


def test_conversions_alone_stop_nothing(folder: Path) -> None:
    settings = masks(folder)
    Image.fromarray(picture(6)).convert("L").save(folder / "val" / "0.png")
    assert _prepare("masks", folder, settings).info.splits == COUNTS
    assert _table("out/faults.csv") == [("0.png", "grey image: copied to three channels", "converted")]


def test_an_empty_split_is_refused_whatever_the_policy(folder: Path) -> None:
    settings = masks(folder)
    for path in (folder / "test").iterdir():
        path.write_text("")
    with pytest.raises(DatasetError, match=r"3 faults \(2 x unreadable image, 1 x empty split\)"):
        _prepare("masks", folder, settings, "skip")
    assert not Path("out").exists()


def test_long_lists_are_cut_on_the_screen_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = masks(folder)
    for index in range(30):
        save(folder / "train" / f"x{index}.png", picture(6, index))
    with pytest.raises(DatasetError, match="30 faults"):
        _prepare("masks", folder, settings)
    assert "... and 10 more" in capsys.readouterr().out and len(_table("work/faults.csv")) == 30


def test_a_task_that_the_data_have_no_labels_for_is_one_line_before_anything_is_read(folder: Path) -> None:
    settings = {**_write("voc", folder), "masks": False}
    (folder / "VOC2012" / "JPEGImages" / "2012_00.jpg").write_text("")
    data = Data.model_validate({"source": "voc", "root": str(folder), "voc": settings})
    with pytest.raises(DatasetError) as caught:
        import_dataset(data, 0, Path("out"), ["detection", "segmentation"])
    assert str(caught.value) == (
        "tasks: dataset 'toy' has no labels for segmentation, only for detection. "
        "Remove segmentation from tasks in params.yaml, or use another dataset"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, r"data\.yaml: cannot be read .*Correct data\.root or data\.yolo"), ("{", "not valid YAML")],
)
def test_a_project_file_that_cannot_be_read(folder: Path, text: str | None, message: str) -> None:
    settings = _write("yolo", folder)
    (folder / "data.yaml").unlink()
    if text:
        (folder / "data.yaml").write_text(text)
    with pytest.raises(ParamsError, match=message):
        _prepare("yolo", folder, settings)
