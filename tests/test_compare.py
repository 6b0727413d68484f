import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from data.dataset import DatasetInfo, write_info
from pipeline.commands import compare
from pipeline.commands.compare import GAIN, SCORE, Change
from pipeline.commands.revisions import Revision, RevisionError
from pipeline.metrics import MeanRecords
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
IMAGES = 20
DAG = """\
stages:
  prepare: {cmd: "true", params: [seed, losses], outs: [artifacts/clean]}
  degrade:
    matrix: {degradation: [fog]}
    cmd: "true"
    outs: ["artifacts/degraded/${item.degradation}"]
  evaluate:
    matrix: {task: [detection], degradation: [fog]}
    cmd: "true"
    outs: ["artifacts/evaluations/${item.task}/${item.degradation}/clean-trained"]
  quality:
    matrix: {degradation: [fog]}
    cmd: "true"
    outs: ["artifacts/quality/${item.degradation}"]
"""
CLEAN_STAGE = """\
  evaluate_clean:
    matrix: {task: [detection]}
    cmd: "true"
    outs: ["artifacts/evaluations/clean/${item.task}"]
"""
RNG = np.random.default_rng(0)
HARD = RNG.normal(0, 0.2, IMAGES)  # differs from image to image much more than the systems do
NOISE = RNG.normal(0, 0.01, (5, IMAGES))
SCORES = {
    "A": {
        "clean": 0.9 + HARD,
        "degraded": 0.3 + HARD,
        "pixel": 0.5 + HARD + NOISE[0],
        "diffloss": 0.55 + HARD + NOISE[1],
    },
    "B": {
        "clean": 0.9 + HARD,
        "degraded": 0.3 + HARD,
        "pixel": 0.5 + HARD + NOISE[0],
        "diffloss": 0.6 + HARD + NOISE[2],
    },
    "other-images": {"clean": 0.9 + HARD, "degraded": 0.3 + HARD, "pixel": 0.5 + HARD, "new": 0.6 + HARD},
}


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _write(folder: Path, scores: Mapping[str, np.ndarray], labels: str) -> None:
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    for base, kind in (("clean", "labels"), ("degraded/fog", "images")):
        split = folder / "artifacts" / base / "test" / kind
        split.mkdir(parents=True)
        (split / "i00.txt").write_text(labels)
        groups = {"test": {"i00": "drive"}} if labels else {}
        info = DatasetInfo("clean", {"detection": ["car"]}, {"test": IMAGES}, {}, groups=groups)
        write_info(split.parents[1], info)
    for variant, values in scores.items():
        records = MeanRecords.from_values({f"i{n:02}": {"mAP50": float(v)} for n, v in enumerate(values)})
        shared = variant == "clean" and CLEAN_STAGE in (folder / "dvc.yaml").read_text()
        place = "clean/detection" if shared else f"detection/fog/clean-trained/{variant}"
        records.save(folder / f"artifacts/evaluations/{place}/test/{RECORDS_FILE}")
        if variant == "pixel":  # what a retrained arm makes of the clean images is none of the fog's scores
            records.save(folder / f"artifacts/evaluations/detection/fog/pixel-retrained/on-clean/test/{RECORDS_FILE}")
        if variant != "clean":
            records = MeanRecords.from_values({f"i{n:02}": {"PSNR": 30 + float(v)} for n, v in enumerate(values)})
            records.save(folder / f"artifacts/quality/fog/{variant}/test/{RECORDS_FILE}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of git and DVC with a tag for each entry of SCORES, and `empty`, before the first results."""
    folder = tmp_path_factory.mktemp("compare")
    params = (ROOT / "params.tiny.yaml").read_text()
    (folder / "params.yaml").write_text(params.replace("resamples: 100", "resamples: 1000"))
    (folder / "dvc.yaml").write_text(DAG)
    (folder / ".gitignore").write_text("/artifacts\n")
    _run(folder, "git", "init", "-q")
    _run(folder, "git", "config", "user.name", "t")
    _run(folder, "git", "config", "user.email", "t@example.org")
    _run(folder, "dvc", "init", "-q")
    for tag, scores in {"empty": {}, **SCORES}.items():
        if tag == "B":  # A is older than the stage evaluate_clean
            (folder / "dvc.yaml").write_text(DAG + CLEAN_STAGE)
            text = (folder / "params.yaml").read_text()
            (folder / "params.yaml").write_text(text.replace("strength: 0.5", "strength: 0.7"))
        if scores:
            _write(folder, scores, tag if tag == "other-images" else "")
            _run(folder, "dvc", "commit", "-f", "-q")
        _run(folder, "git", "add", "-A")
        _run(folder, "git", "commit", "-q", "-m", tag)
        _run(folder, "git", "tag", tag)
    return folder


@pytest.fixture(autouse=True)
def _inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def _changes(before: str, after: str) -> dict[tuple[str, str, str], Change]:
    found = compare.compare(load_params(), Revision(before), Revision(after)).changes
    return {(change.task, change.variant, change.kind): change for change in found}


def test_a_change_is_that_of_the_same_images_resampled_in_pairs() -> None:
    change = _changes("A", "B")["detection", "diffloss", SCORE]
    difference = SCORES["B"]["diffloss"] - SCORES["A"]["diffloss"]
    student = stats.ttest_1samp(difference, 0).confidence_interval(load_params().statistics.level)
    assert change.paired and change.after - change.before == pytest.approx(difference.mean())
    assert (change.low, change.high) == pytest.approx(tuple(student), abs=1e-3)
    assert change.high - change.low < 0.02  # unpaired, the difficulty of images alone would make it 0.25


def test_gains_change_like_scores_where_the_degraded_images_did_not() -> None:
    changes = _changes("A", "B")
    gain, score = (changes["detection", "diffloss", kind] for kind in (GAIN, SCORE))
    assert gain.before == pytest.approx((SCORES["A"]["diffloss"] - SCORES["A"]["degraded"]).mean())
    assert (gain.low, gain.high) == pytest.approx((score.low, score.high))


def test_what_did_not_change_is_no_part_of_the_family() -> None:
    changes = _changes("A", "B")
    assert changes["detection", "pixel", SCORE].same and np.isnan(changes["detection", "pixel", SCORE].adjusted)
    assert {variant for _, variant, _ in changes} == set(SCORES["A"])
    moved = [change for change in changes.values() if not change.same]
    assert {(change.task, change.variant) for change in moved} == {("detection", "diffloss"), ("quality", "diffloss")}
    assert all(change.adjusted == pytest.approx(2 * change.p_value) for change in moved)  # two in each family


def test_other_images_are_compared_as_independent_samples() -> None:
    change = _changes("A", "other-images")["detection", "pixel", SCORE]
    assert not change.paired and not change.same
    paired = _changes("A", "B")["detection", "diffloss", SCORE]
    spread = 2 * 1.96 * np.sqrt(2 * HARD.var() / IMAGES)  # of the difference of two independent means
    assert change.high - change.low == pytest.approx(spread, rel=0.35)
    assert change.high - change.low > 5 * (paired.high - paired.low)


def test_groups_are_those_of_the_revision() -> None:
    assert Revision("A").groups("fog") == {} and Revision("other-images").groups("fog") == {"i00": "drive"}


def test_a_clean_split_with_other_labels_is_not_the_same() -> None:
    comparison = compare.compare(load_params(), Revision("B"), Revision("other-images"))
    text = compare.comparison_page(comparison, 0.95)
    assert "Not the same images in A and B" in text and "detection on fog" in text
    assert "Only B has detection on fog: diffloss." in text and "Only other-images has detection on fog: new." in text


@pytest.mark.parametrize(
    ("adjusted", "same", "change", "words"),
    [
        (0.01, False, 0.1, "rose, more than noise"),
        (0.01, False, -0.1, "fell, more than noise"),
        (0.2, False, 0.1, "rose, not sure after correction"),
        (0.2, False, 0.01, "within noise"),
        (float("nan"), True, 0.0, "unchanged"),
    ],
)
def test_verdicts(adjusted: float, same: bool, change: float, words: str) -> None:
    after, ends = 0.5 + change, (change - 0.05, change + 0.05)
    change_of = ("detection", "fog", "pixel", "mAP50", SCORE)
    found = Change(*change_of, 0.5, after, *ends, 0.0, True, same, adjusted)
    assert compare.verdict(found, 0.95) == words


@pytest.mark.parametrize(
    ("trainings", "words"),
    [(1, "rose, more than noise (these trainings)"), (3, "no verdict: 3 trainings"), (5, "rose, more than noise")],
)
def test_verdicts_depend_on_the_number_of_trainings(trainings: int, words: str) -> None:
    change = Change(
        "detection", "fog", "pixel", "mAP50", SCORE, 0.5, 0.6, 0.05, 0.15, 0.0, True, False, 0.01, trainings, True
    )
    assert compare.verdict(change, 0.95) == words


def test_without_an_interval_the_reason_is_given() -> None:
    nothing = (float("nan"),) * 3
    found = Change("detection", "fog", "pixel", "mAP50", SCORE, 0.5, 0.6, *nothing, True, False, reason="4 groups")
    assert compare.verdict(found, 0.95) == "no verdict: 4 groups"


def test_the_command_prints_and_writes_a_table(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "comparison.md"
    monkeypatch.setattr(sys, "argv", ["compare", "A", "B", "--out", str(out)])
    compare.main()
    text = out.read_text()
    assert capsys.readouterr().out == text + "\n"
    assert "| losses.diffloss.strength | 0.5 | 0.7 |" in text
    row = next(line for line in text.splitlines() if "| detection" in line)
    assert "+0.0" in row and "rose, more than noise (these trainings)" in row
    assert "Restorers were trained once" in text


def test_the_workspace_is_a_revision_too(project: Path) -> None:
    changes = _changes("other-images", "workspace")
    assert changes and all(change.same for change in changes.values())


@pytest.mark.parametrize(
    ("name", "message"), [("nosuch", "'nosuch': no such revision"), ("empty", "empty: this revision has no results")]
)
def test_a_revision_that_cannot_be_compared_gives_one_line(name: str, message: str) -> None:
    with pytest.raises(RevisionError, match=message) as caught:
        compare.compare(load_params(), Revision("A"), Revision(name))
    assert "\n" not in str(caught.value)


def test_results_that_left_the_cache_give_one_line(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    shutil.rmtree(copy / ".dvc" / "cache")
    monkeypatch.chdir(copy)
    with pytest.raises(RevisionError, match=r"A: .* not in DVC's cache. Fetch it") as caught:
        compare.compare(load_params(), Revision("A"), Revision("B"))
    assert "\n" not in str(caught.value)


def test_without_git_or_dvc_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RevisionError, match="needs DVC"):
        Revision("A")


class _Photos:
    """A revision of which only the digests of its data are known."""

    def __init__(self, **digests: str) -> None:
        self.known = digests

    def digests(self, degradation: str | None, split: str) -> dict[str, str]:
        found = self.known.get(f"{degradation or 'clean'}_{split}")
        return {f"{split}/images/a.png": found} if found else {}


@pytest.mark.parametrize(("other", "same"), [("1", True), ("2", False), ("", False)])
def test_real_photos_are_the_same_by_their_own_files(other: str, same: bool) -> None:
    key = ("detection", "night")
    cells = {key: {"degraded": ["x/degraded/test/records.npz"], "pixel": ["x/pixel/test/records.npz"]}}
    before, after = _Photos(night_test="1", clean_test="1"), _Photos(night_test=other, clean_test="2")
    assert compare._same_images(before, after, cells, cells, key) is same  # type: ignore[arg-type]


def test_degraded_copies_may_differ_where_the_clean_images_do_not() -> None:
    key = ("detection", "fog")
    cells = {key: {"clean": ["x/clean/test/records.npz"], "degraded": ["x/degraded/test@3/records.npz"]}}
    cells[("quality", "fog")] = {"degraded": ["q/degraded/test@3/records.npz"]}
    before, after = _Photos(clean_test="1", fog_test="1"), _Photos(clean_test="1", fog_test="2")
    for own in cells:
        assert compare._same_images(before, after, cells, cells, own)  # type: ignore[arg-type]
