"""Real degraded photos instead of made ones: paired with the clean images, or labelled and alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from data import images
from data.dataset import Dataset
from pipeline import degrade, quality
from pipeline.commands.redo_image import redo_image
from pipeline.datasets import real_photos
from pipeline.datasets.manifests import MANIFEST, ManifestError, read_manifest
from pipeline.metrics import load_records
from pipeline.metrics.piqe import piqe
from pipeline.running.artifacts import LEFT_OUT_FILE, RECORDS_FILE
from pipeline.settings.data import Data, Unpaired
from pipeline.settings.params import Params, Quality, load_params

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
CLASSES = ["ground", "square", "bar"]
MASKS = {"name": "night", "classes": CLASSES, "things": CLASSES[1:], "ignored": [255], "min_pixels": 20}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _photos(clean: Dataset, root: Path) -> Path:
    """JPEGs and PNGs in which the clean images are dark."""
    for split in clean.info.splits:
        (root / split).mkdir(parents=True)
        for n, id in enumerate(clean.split(split).ids):
            cv2.imwrite(
                str(root / split / f"{id}.{('png', 'jpg')[n % 2]}"), clean.split(split).image(id)[..., ::-1] // 4
            )
    return root


def test_paired_photos_take_the_place_of_made_ones(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset()
    clean = replace(clean, info=replace(clean.info, groups={"test": {"test0": "a"}}))
    real_photos.copy_paired(clean, _photos(clean, tmp_path / "rainy"), "rain-cam", tmp_path / "out")
    degraded = Dataset.open(tmp_path / "out")
    assert degraded.info == clean.info and degraded.has_clean_images
    for split in clean.info.splits:
        for n, id in enumerate(clean.split(split).ids):
            photo = tmp_path / "rainy" / split / f"{id}.{('png', 'jpg')[n % 2]}"
            assert np.array_equal(degraded.split(split).image(id), images.read_image(photo))
            assert np.array_equal(degraded.split(split).boxes(id), clean.split(split).boxes(id))
    row = read_manifest(degraded.folder).to_dict("records")[1]
    assert (row["recipe"], row["file"]) == ("rain-cam", "train/train1.jpg")
    with pytest.raises(ManifestError, match="real photos"):
        redo_image(clean, row)


def test_photos_that_do_not_fit_are_named(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset()
    root = _photos(clean, tmp_path / "rainy")
    cv2.imwrite(str(root / "test" / "test0.png"), np.zeros((20, 64, 3), np.uint8))
    with pytest.raises(
        real_photos.RealPhotosError, match=r"test0\.png: has \(20, 64\) pixels .*clean image \(48, 64\)"
    ):
        real_photos.copy_paired(clean, root, "rain-cam", tmp_path / "out")
    (root / "val" / "val1.jpg").unlink()
    with pytest.raises(real_photos.RealPhotosError, match=r"no photo for the clean images val1\.png\. Add"):
        real_photos.copy_paired(clean, root, "rain-cam", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _labelled(clean: Dataset, root: Path) -> Path:
    """Dark photos with masks in CamVid's layout, as a data set of their own."""
    for split in ("train", "test"):
        for name in (split, f"{split}annot"):
            (root / name).mkdir(parents=True)
        for id in clean.split(split).ids[:2]:
            images.write_image(root / split / f"night-{id}.png", clean.split(split).image(id) // 4)
            shutil.copy(clean.split(split).folder / "masks" / f"{id}.png", root / f"{split}annot" / f"night-{id}.png")
    return root


def _unpaired(root: Path, **masks: object) -> tuple[Unpaired, Params]:
    data = Data.model_validate({"source": "masks", "root": str(root), "masks": {**MASKS, **masks}})
    photos = Unpaired(kind="unpaired", recipe="lowlight", data=data)
    return photos, PARAMS.model_copy(update={"tasks": ["segmentation"]})


def test_labelled_photos_are_judged_and_pairs_are_made_for_training(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset()
    clean = replace(clean, info=replace(clean.info, groups={"train": {"train0": "a"}, "test": {"test0": "b"}}))
    photos, params = _unpaired(_labelled(clean, tmp_path / "night"), groups={"pattern": r"(night)-test\d"})
    degrade.degrade_for_photos(clean, photos, params.degrade, params, tmp_path / "out")
    degraded = Dataset.open(tmp_path / "out")
    expected = {"train": {"train0": "a"}, "test": {"night-test0": "night", "night-test1": "night"}}
    assert degraded.info.groups == expected
    assert not degraded.has_clean_images and degraded.info.splits == {"train": 5, "val": 2, "test": 2}
    test = degraded.split("test")
    assert test.ids == ("night-test0", "night-test1")
    assert np.array_equal(test.image("night-test0"), clean.split("test").image("test0") // 4)
    assert np.array_equal(test.mask("night-test0"), clean.split("test").mask("test0"))
    rows = pd.read_csv(degraded.folder / MANIFEST)
    assert set(rows[rows.split == "train"].recipe) == {"lowlight"} and set(rows[rows.split == "test"].recipe) == {
        "night"
    }
    assert {path.name for path in degraded.folder.iterdir()} == {
        "train",
        "val",
        "test",
        MANIFEST,
        "dataset.json",
        "faults.csv",
    }


def test_bad_photos_that_were_left_out_are_listed_beside_the_result(
    make_dataset: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = make_dataset()
    root = _labelled(clean, tmp_path / "night")
    (root / "test" / "night-test0.png").write_text("no image")
    photos, params = _unpaired(root)
    skipping = Unpaired(kind="unpaired", recipe="lowlight", data=photos.data.model_copy(update={"faults": "skip"}))
    degrade.degrade_for_photos(clean, skipping, params.degrade, params, tmp_path / "out")
    assert Dataset.open(tmp_path / "out").split("test").ids == ("night-test1",)
    assert "night-test0.png,unreadable image: " in (tmp_path / "out" / "faults.csv").read_text()
    assert f"all of them are in {tmp_path / 'out' / 'faults.csv'}" in capsys.readouterr().out


def test_photos_of_other_classes_are_refused(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset()
    photos, params = _unpaired(_labelled(clean, tmp_path / "night"), classes=["ground", "bar", "square"])
    with pytest.raises(
        real_photos.RealPhotosError, match="ground, bar, square, those of the clean data are ground, square, bar"
    ):
        degrade.degrade_for_photos(clean, photos, params.degrade, params, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_other_classes_are_left_out_if_no_task_needs_them(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    """A task that is added later must not be scored with them: the stage does not run again for it."""
    photos, params = _unpaired(_labelled(make_dataset(), tmp_path / "night"))
    clean = make_dataset()
    changed = {**clean.info.classes, "segmentation": ["ground", "bar", "square"]}
    clean = replace(clean, info=replace(clean.info, classes=changed))
    params = params.model_copy(update={"tasks": []})
    degrade.degrade_for_photos(clean, photos, params.degrade, params, tmp_path / "out")
    assert "segmentation" not in Dataset.open(tmp_path / "out").info.classes


def test_quality_of_photos_without_clean_counterparts(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = make_dataset()
    photos, params = _unpaired(_labelled(clean, tmp_path / "night"))
    params = params.model_copy(update={"quality": Quality(no_reference=["PIQE"]), "objectives": ["pixel"]})
    degrade.degrade_for_photos(clean, photos, params.degrade, params, tmp_path / "out")
    degraded, restored = Dataset.open(tmp_path / "out").split("test"), Path("restored/pixel/test")
    restored.mkdir(parents=True)
    for id in degraded.ids:
        images.write_image(restored / f"{id}.png", degraded.image(id) * 3)
    words = f"--clean {clean.folder} --degraded out --restored restored --prior none --out quality".split()
    monkeypatch.setattr("sys.argv", ["quality", *words])
    monkeypatch.setattr(quality, "load_params", lambda: params)
    quality.main()
    for variant, factor in (("degraded", 1), ("pixel", 3)):
        records = load_records(Path("quality", variant, "test", RECORDS_FILE))
        assert records.image_ids == degraded.ids and list(records.image_scores()) == ["blur", "PIQE"]
        expected = np.mean([piqe(degraded.image(id) * factor, degraded.image(id)) for id in degraded.ids])
        assert records.metrics()["PIQE"][0] == pytest.approx(expected)
    left_out = json.loads(Path("quality", LEFT_OUT_FILE).read_text())
    assert left_out == {"PSNR, SSIM, MS-SSIM, LPIPS, natural, semantic": "the photos of out have no clean counterparts"}
