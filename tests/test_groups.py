"""Which images belong together: read from ids, folders, COCO's records or a CSV file; cut into blocks; drawn whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside_data import COUNTS, WRITERS, index_mask, masks, open_source, picture, save
from properties import few

from data.dataset import Dataset
from data.labels import DatasetError
from data.settings import SplitName
from data.sources.drawing import draw_groups
from data.sources.groups import Grouping, GroupSettings, cut_into_blocks
from data.sources.masks import Masks
from data.sources.splits import ImageEntry, list_images
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
CAMVID = ROOT.parent / "shared" / "camvid"
SHARES: dict[SplitName, float] = {"train": 0.7, "val": 0.1, "test": 0.2}
FILES = sorted(set(WRITERS) - {"scenes"})
NAMES = [f"{clip}_f{10 * frame:05d}" for clip in ("a", "b") for frame in range(4)]


def _grouping(root: Path = Path("/data"), *, preset: str | None = None, **section: Any) -> Grouping:
    return Grouping(GroupSettings.model_validate(section), "data.x.groups", root, preset)


def _videos(grouping: Grouping, *ids: str) -> dict[str, str]:
    paths = {Path("/data") / f"{image_id}.png": image_id for image_id in ids}
    return {paths[path]: group for path, group in grouping.videos(paths, {}).items()}


def _masks_with(root: Path, groups: object, names: list[str], splits: tuple[str, ...] = ("train", "val")) -> Masks:
    for number, split in enumerate(splits):
        for index, name in enumerate(names):
            save(root / split / f"{name}.png", picture(7, number, index))
            save(root / f"{split}annot" / f"{name}.png", index_mask())
    section = {"name": "toy", "classes": ["road", "car"], "ignored": [7], "things": ["car"], "min_pixels": 20}
    return Masks(root, {**section, "groups": groups}, 0)


def test_a_pattern_matches_the_whole_id_and_other_images_are_independent() -> None:
    grouping = _grouping(pattern=r"(.+)_f?\d+")
    expected = {"0006R0_f00930": "0006R0", "a_b_7": "a_b"}
    assert _videos(grouping, "0006R0_f00930", "a_b_7", "x_1y", "7") == expected
    assert _videos(_grouping(pattern=r"(?:clip(\d))?.+"), "clip1a", "b") == {"clip1a": "1"}
    with pytest.raises(
        DatasetError, match=r"^data\.x\.groups\.pattern: '\(.\)-1' matches none of 2 ids, such as 'a_1'"
    ):
        _videos(_grouping(pattern="(.)-1"), "a_1", "b_1")


def test_folders_are_named_from_the_root(tmp_path: Path) -> None:
    grouping = _grouping(tmp_path, folder=True)
    files = {tmp_path / "a" / "b" / "1.png": "1", tmp_path / "2.png": "2", tmp_path.parent / "c" / "3.png": "3"}
    assert list(grouping.videos(files, {}).values()) == ["a/b", ".", "../c"]


@pytest.mark.parametrize(
    "text", ["a_1,x\nb_1,y\n", "\ufeffid,group\r\na_1, x\r\n\r\nb_1,y\r\n", "ID,video\nb_1,y\na_1,x"]
)
def test_a_csv_file_with_or_without_header(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.csv").write_text(text, newline="")
    assert _videos(_grouping(tmp_path, file="g.csv"), "a_1", "b_1") == {"a_1": "x", "b_1": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_1,x\n", r"data\.x\.groups\.file: 2 of 3 images are not in g\.csv; the first id is 'b_1'\. Give each"),
        ("a_1,x,y\n", r"data\.x\.groups\.file: .*g\.csv': row 1: expected id,group, got 'a_1,x,y'\. Correct it"),
        ("a_1,x\nb_1,\n", r"row 2: expected id,group, got 'b_1,'"),
        ("a_1,x\na_1,y\n", r"row 2: 'a_1' is in the groups 'x' and 'y'\. Keep one"),
        (None, r"data\.x\.groups\.file: .*g\.csv': cannot be read \(No such file or directory\)\. Name a CSV file"),
        ("\0", r"g\.csv': "),
        (b"\xff\xfe", r"g\.csv': cannot be read \(.*utf-8"),
    ],
)
def test_a_csv_file_with_mistakes(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / "g.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=message) as caught:
        _videos(_grouping(tmp_path, file="g.csv"), "a_1", "b_1", "c_1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["g\0.csv", "\ud800.csv", "", "g" * 5000])
@pytest.mark.parametrize("trust", [False, True])
def test_a_name_that_is_no_csv_file(tmp_path: Path, name: str, trust: bool) -> None:
    grouping = Grouping(GroupSettings(file=name), "data.x.groups", tmp_path, None, trust_paths=trust)
    with pytest.raises(DatasetError, match=r"^data\.x\.groups\.file: .* cannot be read") as caught:
        _videos(grouping, "a_1")
    assert "\n" not in str(caught.value)


def test_a_csv_file_outside_is_refused_if_paths_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("0,x\n1,x\n2,x\n")
    settings = {**masks(tmp_path / "in"), "groups": {"file": "../g.csv"}}
    assert open_source("masks", tmp_path / "in", settings).groups()["val"] == {"0": "x", "1": "x"}
    with pytest.raises(DatasetError, match=r"data\.masks\.groups\.file: .*g\.csv': cannot be read \(it is not below"):
        open_source("masks", tmp_path / "in", settings, trust_paths=False).groups()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pattern": "(a"}, r"groups\.pattern: '\(a' is not a regular expression \(.*\)\. Correct it"),
        ({"pattern": "a_1"}, r"groups\.pattern: 'a_1' captures nothing\. Put parentheses around the group"),
        ({"pattern": "(a)", "folder": True}, "groups: pattern and folder exclude each other"),
        ({"seconds": 2}, "groups: seconds and frame_rate need each other"),
        ({"block": 3, "seconds": 2, "frame_rate": 15}, "groups: block and seconds exclude each other"),
        ({"seconds": 1e300, "frame_rate": 1e300}, "groups.seconds: Input should be less than or equal to 86400"),
        ({"block": 0}, "groups.block: Input should be greater than or equal to 1, got 0"),
        ({"patern": "(a)"}, "groups.patern: unknown key"),
        ({"field": "video_id"}, "groups: field: only the source coco has fields. Use pattern, folder or file"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_settings_with_mistakes(tmp_path: Path, name: str, section: Mapping[str, Any], message: str) -> None:
    settings = WRITERS[name](tmp_path) | {"groups": section}
    if name == "coco" and "field" in section:
        return
    with pytest.raises(DatasetError, match=rf"^data\.{name}\.{message}") as caught:
        open_source(name, tmp_path, settings)
    assert "\n" not in str(caught.value)


def test_blocks_are_neighbours_in_the_order_of_numbers() -> None:
    videos = {f"a_{number}": "a" for number in range(12)} | {"b": "b"}
    blocks = cut_into_blocks(dict(sorted(videos.items())), 5)
    members = {group: [name for name in videos if blocks[name] == group] for group in blocks.values()}
    assert members == {
        "a:0": [f"a_{number}" for number in range(5)],
        "a:1": [f"a_{number}" for number in range(5, 10)],
        "a:2": ["a_10", "a_11"],
        "b:0": ["b"],
    }
    assert cut_into_blocks(videos, None) == videos


def test_blocks_in_seconds() -> None:
    assert _grouping(seconds=2, frame_rate=15).block == 30 and _grouping(seconds=0.01, frame_rate=15).block == 1
    assert _grouping(block=7).block == 7 and _grouping(folder=True).block is None


REAL_NAMES = [
    ("camvid", "0001TP_006690", "0001TP"),
    ("camvid", "Seq05VD_f05100", "Seq05VD"),
    ("camvid", "0006R0_f00930", "0006R0"),
    ("camvid", "0016E5_08159", "0016E5"),
    ("cityscapes", "aachen_000000_000019", "aachen_000000"),
    ("cityscapes", "bad-honnef_000012_000000", "bad-honnef_000012"),
    ("acdc", "GOPR0475_frame_000041", "GOPR0475"),
    ("acdc", "GP010475_frame_000101", "GP010475"),
]
PLACES = {
    "camvid": ("{split}/{name}.png", "{split}annot/{name}.png"),
    "cityscapes": (
        "leftImg8bit/{split}/{folder}/{name}_leftImg8bit.png",
        "gtFine/{split}/{folder}/{name}_gtFine_labelTrainIds.png",
    ),
    "acdc": (
        "rgb_anon/fog/{split}/{folder}/{name}_rgb_anon.png",
        "gt/fog/{split}/{folder}/{name}_gt_labelTrainIds.png",
    ),
}


@pytest.mark.parametrize("folders", [1, 2])
@pytest.mark.parametrize(("layout", "name", "group"), REAL_NAMES)
def test_layouts_know_their_groups(tmp_path: Path, layout: str, name: str, group: str, folders: int) -> None:
    names = [name, "zurich_000001_000019"] if layout == "cityscapes" else [name, "GOPR0001_frame_000001"]
    for index, each in enumerate(names[:folders]):
        for template, pixels in zip(PLACES[layout], (picture(8, index), index_mask()), strict=True):
            save(tmp_path / template.format(split="val", name=each, folder=each.split("_")[0]), pixels)
    section = {"name": "toy", "classes": ["road", "car"], "ignored": [7], "things": ["car"], "min_pixels": 20}
    section |= {"layout": layout, "conditions": ["fog"]}
    groups = Masks(tmp_path, section, 0).groups()["val"]
    assert [found for image_id, found in groups.items() if name in image_id] == [group]
    assert Masks(tmp_path, {**section, "groups": {}}, 0).groups()["val"] == groups
    assert Masks(tmp_path, {**section, "groups": None}, 0).groups() == {}


def test_a_layouts_preset_leaves_other_names_alone(tmp_path: Path) -> None:
    assert _masks_with(tmp_path, {}, NAMES).groups() == {}
    blocks = _masks_with(tmp_path, {"block": 3}, NAMES).groups()  # one sequence, as without a preset
    assert list(blocks["val"].values()) == [f"images:{number // 3}" for number in range(8)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bdd", {"b1c66a42-6f7d68ca-0000001": "b1c66a42-6f7d68ca", "b1c66a42-6f7d68ca": "b1c66a42-6f7d68ca"}),
        ("kitti", {"2011_09_26_drive_0001_sync_image_0000000005": "2011_09_26_drive_0001"}),
        ("foggy", {"aachen__aachen_000000_000019_leftImg8bit_foggy_beta_0.02": "aachen_000000"}),
    ],
)
def test_patterns_of_the_page(path: str, expected: Mapping[str, str]) -> None:
    page = (ROOT / "docs" / "how-to" / "datasets.md").read_text()
    row = next(
        line for line in page.splitlines() if line.startswith("|") and path in line.lower() and "pattern" in line
    )
    pattern = row.split("pattern: '")[1].split("'")[0]
    assert _videos(_grouping(pattern=pattern), *expected) == expected


def test_a_field_of_cocos_records(tmp_path: Path) -> None:
    settings = {**WRITERS["coco"](tmp_path), "groups": {"field": "video_id"}}
    with pytest.raises(DatasetError, match=r"data\.coco\.groups\.field: 7 of 7 images have no 'video_id'.*id is '0'"):
        open_source("coco", tmp_path, settings).split_ids()
    for split in COUNTS:
        content = json.loads((tmp_path / f"{split}.json").read_text())
        for image in content["images"]:
            image["video_id"] = image["id"] // 2
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    source = open_source("coco", tmp_path, settings)
    assert source.groups() == {
        "train": {"0": "0", "1": "0", "2": "1"},
        "val": {"0": "50", "1": "50"},
        "test": {"0": "100", "1": "100"},
    }


def test_a_clip_in_two_splits_of_the_files_is_one_group_when_splits_are_drawn() -> None:
    entries = {
        split: [ImageEntry(Path(f"/data/{split}/{clip}_{frame}.png")) for clip in clips for frame in range(5)]
        for split, clips in (("train", "abcd"), ("val", "defg"))
    }
    grouping = _grouping(pattern=r"(.+)_\d+")
    kept = list_images(entries, None, {}, "data.x", 0, [], grouping)
    assert kept.divided == {"d": ["train", "val"]} and kept.groups["val"]["d_0"] == "d"
    drawn = list_images(entries, {"train": 0.5, "val": 0.5}, {}, "data.x", 0, [], grouping)
    assert drawn.divided == {}
    assert not set(drawn.groups["train"].values()) & set(drawn.groups["val"].values())


@few
@given(
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=40),
    shares=st.sampled_from([SHARES, {"train": 0.5, "val": 0.5}, {"train": 0.8, "test": 0.2}]),
    block=st.sampled_from([None, 7]),
    single=st.integers(0, 5),
    seed=st.integers(0, 3),
)
def test_no_group_is_in_two_splits_and_sizes_are_near(
    sizes: list[int], shares: dict[SplitName, float], block: int | None, single: int, seed: int
) -> None:
    names = [f"{video:02d}_{frame:02d}" for video, size in enumerate(sizes) for frame in range(size)]
    images = [ImageEntry(Path("/data") / f"{name}.png") for name in [*names, *(f"x{i}" for i in range(single))]]
    grouping = _grouping(pattern=r"(.+)_\d+", **({} if block is None else {"block": block}))
    listing = list_images({"all": images}, shares, {}, "data.x", seed, [], grouping)
    assert list_images({"all": images[::-1]}, shares, {}, "data.x", seed, [], grouping) == listing
    assert sum(map(len, listing.splits.values())) == len(images) and set(listing.splits) == set(shares)
    for level in (
        lambda split: {name.split("_")[0] for name in listing.splits[split]},
        lambda split: set(listing.groups[split].values()),
    ):
        found = [value for split in listing.splits for value in level(split)]
        assert len(found) == len(set(found))
    for split, share in shares.items():
        count = len(listing.splits[split])
        assert count and abs(count - share * len(images)) <= max(sizes) + 1
    if block is not None:
        assert all(
            list(groups.values()).count(group) <= block
            for groups in listing.groups.values()
            for group in groups.values()
        )


def test_drawn_groups_meet_the_shares_where_they_can() -> None:
    sizes, targets = np.full(100, 10), np.array([700.0, 100.0, 200.0])
    places = [draw_groups(sizes, targets, seed) for seed in (0, 0, 1)]
    assert np.bincount(places[0]).tolist() == [70, 10, 20]
    assert np.array_equal(places[0], places[1]) and not np.array_equal(places[0], places[2])
    largest = [draw_groups(np.array([20, *[1] * 80]), np.array([50.0, 50.0]), seed)[0] for seed in range(40)]
    assert 10 < sum(largest) < 30  # the largest group is in either split
    assert np.bincount(draw_groups(np.full(3, 10), np.array([21.0, 3.0, 6.0]), 0)).tolist() == [1, 1, 1]


def test_too_few_groups_are_cut_into_blocks_or_refused() -> None:
    images = [ImageEntry(Path("/data") / f"a_{frame:02d}.png") for frame in range(60)]
    with pytest.raises(
        DatasetError, match=r"^data\.x\.split: expected 3 or more groups of images .* got 1\. .*groups\.block"
    ):
        list_images({"all": images}, SHARES, {}, "data.x", 0, [], _grouping(pattern=r"(.+)_\d+"))
    for way in ({"pattern": r"(.+)_\d+"}, {}):
        listing = list_images({"all": images}, SHARES, {}, "data.x", 0, [], _grouping(block=3, **way))
        assert {split: len(set(groups.values())) for split, groups in listing.groups.items()} == {
            "train": 14,
            "val": 2,
            "test": 4,
        }


def test_the_draw_without_groups_is_that_of_earlier_versions() -> None:
    images = [ImageEntry(Path("/data") / f"{index:03d}.png") for index in range(20)]
    expected = ["001", "009", "014", "015"]
    for grouping in (None, _grouping(), _grouping(preset=r"(clip\d)_.*")):
        assert list(list_images({"all": images}, SHARES, {}, "data.x", 0, [], grouping).splits["test"]) == expected


def test_images_are_thinned_after_they_are_grouped() -> None:
    images = [ImageEntry(Path("/data") / f"a_{frame:02d}.png") for frame in range(40)]
    listing = list_images({"val": images}, None, {"val": 4}, "data.x", 0, [], _grouping(block=10))
    assert listing.groups == {"val": {"a_00": "images:0", "a_13": "images:1", "a_26": "images:2", "a_39": "images:3"}}


@pytest.mark.parametrize("name", FILES)
def test_every_source_writes_its_groups_into_dataset_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    section = WRITERS[name](tmp_path / "in")
    if name == "yolo":
        (tmp_path / "in" / "data.yaml").write_text(json.dumps(section.pop("content")))
    ids = [image_id for names in open_ids(name, section) for image_id in names]
    (tmp_path / "in" / "groups.csv").write_text("".join(f"{image_id},site\n" for image_id in dict.fromkeys(ids)))
    for groups, shared in (({"file": "groups.csv"}, "site"), ({"folder": True, "block": 1}, None), (None, None)):
        section["groups"] = groups
        data = Data.model_validate({"source": name, "root": "in", name: section})
        import_dataset(data, 0, Path("out"))
        info = Dataset.open(Path("out")).info
        printed = capsys.readouterr().out
        if groups is None:
            assert info.groups == {} and "groups" not in info.source
            continue
        assert {split: len(each) for split, each in info.groups.items()} == COUNTS and info.source["groups"] == groups
        if shared:
            assert {group for each in info.groups.values() for group in each.values()} == {shared}
            text = "groups with images in several splits: 1, the first is 'site' in train and val and test"
            assert f"prepare: warning: {text}" in printed and f"Set data.{name}.split" in printed


def open_ids(name: str, section: dict[str, Any]) -> list[list[str]]:
    content = json.loads(Path("in/data.yaml").read_text()) if name == "yolo" else None
    source = open_source(name, Path("in"), section | ({"content": content} if content else {}))
    return list(source.split_ids().values())


def test_images_that_are_left_out_are_in_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = {**masks(tmp_path / "in"), "groups": {"block": 2}}
    (tmp_path / "in" / "train" / "1.png").write_text("no image")
    save(tmp_path / "in" / "train" / "2.png", picture(4, 2, 0))  # the pixels of test/0
    data = Data.model_validate({"source": "masks", "root": "in", "faults": "skip", "masks": section})
    import_dataset(data, 0, Path("out"))
    info = Dataset.open(Path("out")).info
    assert info.groups["train"] == {"0": "images:0"} and info.splits["train"] == 1


@pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/camvid is not here")
def test_the_clips_of_camvid() -> None:
    section = load_params(ROOT / "params.camvid.yaml").data.settings
    groups = Masks(CAMVID, section, 0).groups()
    assert {split: len(set(each.values())) for split, each in groups.items()} == {"train": 39, "val": 11}
    source = Masks(CAMVID, {**section, "groups": {}}, 0)
    assert set(source.groups()["val"].values()) == {"0016E5"} and source.divided_groups() == {
        "0016E5": ["train", "val"]
    }
    assert set(source.groups()["train"].values()) == {"0001TP", "0006R0", "0016E5"}
    drawn = Masks(CAMVID, {**section, "groups": {}, "split": {"train": 0.7, "val": 0.3}}, 0)
    assert set(drawn.groups()["train"].values()) == {"0016E5"}  # 305 of 468 images
    assert set(drawn.groups()["val"].values()) == {"0001TP", "0006R0"}
