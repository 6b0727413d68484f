"""What makes a restorer train again: its own objective's settings, code and networks, and nothing else."""

from pathlib import Path

import pytest

from pipeline.objective import describe
from pipeline.settings.params import Params, ParamsError, load_params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(ROOT)
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "weights").write_text("one")
    for task in ("detection", "segmentation"):
        (tmp_path / "tasks" / task).mkdir(parents=True)
        (tmp_path / "tasks" / task / "weights").write_text(task)
    return tmp_path / "prior", tmp_path / "tasks"


def _params(**losses: object) -> Params:
    params = load_params(ROOT / "params.yaml")
    return params.model_copy(update={"losses": {**params.losses, **losses}})


def test_only_those_who_need_the_prior_depend_on_it(networks: tuple[Path, Path]) -> None:
    before = {name: describe(name, _params(), *networks) for name in ("pixel", "diffloss", "task")}
    (networks[0] / "weights").write_text("another")
    after = {name: describe(name, _params(), *networks) for name in before}
    assert before["pixel"] == after["pixel"] and before["task"] == after["task"]
    assert before["diffloss"] != after["diffloss"]


def test_only_the_losses_of_the_objective_count(networks: tuple[Path, Path]) -> None:
    before, after = _params(), _params(diffloss={"strength": 0.9})
    assert describe("pixel", before, *networks) == describe("pixel", after, *networks)
    assert describe("diffloss", before, *networks) != describe("diffloss", after, *networks)
    everyone = _params(pixel={"kind": "l2"})
    assert describe("diffloss", before, *networks) != describe("diffloss", everyone, *networks)


def test_only_an_objective_with_steps_of_its_own_changes_with_them(networks: tuple[Path, Path]) -> None:
    params = _params()
    restorer = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9}})
    longer = params.model_copy(update={"train_restorer": restorer})
    assert describe("pixel", longer, *networks) != describe("pixel", params, *networks)
    assert describe("diffloss", longer, *networks) == describe("diffloss", params, *networks)


def test_a_variant_is_described_with_all_its_settings(networks: tuple[Path, Path]) -> None:
    params = _params(late={"base": "diffloss", "timesteps": [400, 900]})
    found = describe("late", params, *networks)
    assert found["losses"]["late"] == {**params.losses["diffloss"], "base": "diffloss", "timesteps": [400, 900]}
    assert found["prior"] and set(found["code"]) == {"pixel", "diffloss"}
    assert describe("late", _params(late={"base": "task", "network": "segmentation"}), *networks)["network"] == (
        "segmentation"
    )


def test_the_task_objective_depends_on_its_network(networks: tuple[Path, Path]) -> None:
    before = describe("pixel + task", _params(), *networks)
    assert before["network"] == "detection"
    (networks[1] / "segmentation" / "weights").write_text("another")
    assert describe("pixel + task", _params(), *networks) == before
    (networks[1] / "detection" / "weights").write_text("another")
    assert describe("pixel + task", _params(), *networks) != before
    with pytest.raises(ParamsError, match=r"losses\.task\.network: 'depth' is not among tasks: detection"):
        describe("task", _params(task={"network": "depth"}), *networks)


def test_code_of_the_diffusion_terms_is_no_part_of_pixel(networks: tuple[Path, Path]) -> None:
    from pipeline.running.digests import closure

    pixel = {path.as_posix() for path in closure("models.losses.pixel", Path())}
    assert "models/diffusion/prior.py" not in pixel
    assert "models/diffusion/prior.py" in {p.as_posix() for p in closure("models.losses.diffusion_terms", Path())}
