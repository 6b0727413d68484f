from pathlib import Path

import pytest

from models.restorers import RESTORERS
from pipeline.plan import check_names, needs
from pipeline.settings.grammar import CHECKPOINT, FROZEN, GrammarError, objective_losses
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.settings.training import TrainRestorer

ROOT = Path(__file__).parents[1]


def _load(tmp_path: Path, *changes: tuple[str, str]) -> Params:
    text = (ROOT / "params.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "params.yaml").write_text(text)
    return load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", load_params(ROOT / "params.yaml").train_restorer.sections)
def test_a_restorer_is_chosen_by_its_name_alone(tmp_path: Path, name: str) -> None:
    settings = _load(tmp_path, ("restorer: nafnet", f"restorer: {name}")).train_restorer
    assert settings.restorer == name and settings.network
    assert {*RESTORERS, CHECKPOINT} & set(settings.used) == {name}
    assert not {*RESTORERS, CHECKPOINT} & set(settings.training)


def test_every_restorer_can_be_chosen() -> None:
    assert set(TrainRestorer.plugin_names()) == {*RESTORERS, CHECKPOINT}


CHOSEN = ("restorer: nafnet", "restorer: checkpoint")
FILE = ("checkpoint: {weights: null}", "checkpoint: {weights: some.pth}")
OBJECTIVES = ("objectives: [pixel, diffloss]", "objectives: [frozen, pixel]")


def test_a_restorer_is_chosen_by_its_file(tmp_path: Path) -> None:
    assert _load(tmp_path, CHOSEN, FILE).train_restorer.network == {"weights": "some.pth"}


def test_frozen_is_an_objective_without_losses(tmp_path: Path) -> None:
    check_names(_load(tmp_path, FILE, OBJECTIVES))  # beside restorers that are trained from scratch
    params = _load(tmp_path, CHOSEN, FILE, OBJECTIVES)
    check_names(params)
    assert objective_losses(FROZEN, params.losses) == {} and needs(params) == {"prior": False}
    assert params.losses_of(FROZEN) == {} and set(params.losses_of("pixel")) == {"pixel"}
    with pytest.raises(GrammarError, match=r"'frozen' is unknown\. Choose one of pixel"):
        objective_losses("frozen + lpips", params.losses)


FAULTS = [
    (
        [("restorer: nafnet", "restorer: nafnett")],
        "train_restorer.restorer: 'nafnett' is unknown. Choose one of unet, nafnet, re",
    ),
    ([CHOSEN], "train_restorer.checkpoint.weights: restorer is 'checkpoint', which needs a file"),
    ([OBJECTIVES], "train_restorer.checkpoint.weights: an objective is 'frozen', which needs a file. Name it."),
    (
        [
            ("clip: 1.0", "warm_up: 900\n  clip: 1.0"),
            ("  warm_up: 0                     # steps in which the learning rate rises; afterwards", "  #"),
        ],
        "train_restorer: warm_up must be less than steps (760), got 900",
    ),
    ([("keep_best: false", "keep_best: true")], "train_restorer.validation: keep_best and patience need"),
    ([("patience: null", "patience: 3")], "train_restorer.validation: keep_best and patience need validation.every"),
    ([("metric: psnr", "metric: mAP")], "train_restorer.validation.metric: Input should be 'psnr' or 'ssim', got"),
    (
        [("precision: auto                # of the restorer", "precision: half # of the restorer")],
        "train_restorer.precision: Input should be 'auto', 'full', 'bf16' or 'fp16'",
    ),
    (
        [("precision: auto                # of the U-Net", "precision: half # of the U-Net")],
        "train_prior.precision: Input should be 'auto', 'full' or 'bf16'",
    ),
    ([("ema: null", "ema: 1.0")], "train_restorer.ema: Input should be less than 1"),
    ([("clip: 1.0", "clip: 0")], "train_restorer.clip: Input should be greater than 0"),
    ([("tile: null", "tile: 96")], "restore: overlap must be at most half of tile (96), got 64"),
    ([("heads: [1, 2, 4]", "heads: [1, 2]")], "train_restorer.restormer: blocks and heads must have the same length"),
    ([("heads: [1, 2, 4]", "heads: [3, 2, 4]")], "a level of 16 channels cannot be shared among 3 heads"),
    ([("features: 16", "features: 18")], "train_restorer.retinexformer.features: Input should be a multiple of 4"),
    (
        [("channels: [16, 24, 32, 48]", "channels: [16, 32]")],
        "train_restorer.unet.channels: List should have at",
    ),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_names(_load(tmp_path, *changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_section_that_is_needed(tmp_path: Path) -> None:
    line = next(line for line in (ROOT / "params.yaml").read_text().splitlines() if line.startswith("  unet:"))
    with pytest.raises(ParamsError, match=r"which needs a section train_restorer\.unet"):
        _load(tmp_path, ("restorer: nafnet", "restorer: unet"), (line + "\n", ""))
