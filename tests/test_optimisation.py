"""What people expect around an optimiser: each part does what it says, and nothing where it is not asked for."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from models.losses.objective import ObjectiveOutput
from models.restorers.contract import Restorer
from pipeline.settings.training import TrainRestorer
from pipeline.training.loop import Loop
from pipeline.training.optimisation import LOWEST_RATE, Optimisation, TrainingError
from pipeline.training.restorers import train_restorer

SETTINGS = TrainRestorer.model_validate(
    {
        "restorer": "nafnet",
        "nafnet": {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "crop": 16,
        "steps": 8,
        "batch": 2,
        "learning_rate": 1e-2,
    }
)


def _with(**changes: Any) -> TrainRestorer:
    return SETTINGS.model_copy(update=changes)


def _optimisation(**changes: Any) -> Optimisation:
    torch.manual_seed(0)
    return Optimisation(Restorer(nn.Conv2d(3, 3, 3, padding=1), "test", {}, 1).train(), _with(**changes))


def _run(optimisation: Optimisation, steps: int) -> list[dict[str, float]]:
    logs = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(2, 3, 8, 8, generator=generator)
        with optimisation.precision():
            restored = optimisation.restorer(images)
        logs.append(optimisation.step((restored.float() - images).abs().mean()))
    return logs


def test_the_rate_rises_and_falls() -> None:
    rates = [entry["learning_rate"] for entry in _run(_optimisation(steps=20, warm_up=4), 20)]
    assert rates[:5] == pytest.approx([1e-2 * k / 5 for k in range(1, 6)])
    assert all(after < before for before, after in pairwise(rates[4:]))
    assert rates[-1] < 2e-4


def test_without_warm_up_it_is_the_cosine() -> None:
    optimisation = _optimisation(steps=20)
    rates = [entry["learning_rate"] for entry in _run(optimisation, 20)]
    assert rates[0] == 1e-2 and rates[10] == pytest.approx((1e-2 + LOWEST_RATE) / 2)
    assert optimisation.optimizer.param_groups[0]["lr"] == pytest.approx(LOWEST_RATE)


@pytest.mark.parametrize(("clip", "expected"), [(1e-3, 1e-3), (1e3, None), (None, None)])
def test_the_gradient_is_cut_down(clip: float | None, expected: float | None) -> None:
    optimisation = _optimisation(clip=clip)
    norm = _run(optimisation, 1)[0]["gradient_norm"]
    left = torch.stack([weight.grad.norm() for weight in optimisation.weights]).norm().item()  # type: ignore[union-attr]
    assert norm > 1e-2
    assert left == pytest.approx(expected or norm, rel=1e-4)


def test_the_running_mean_is_what_is_kept() -> None:
    optimisation = _optimisation(ema=0.9)
    expected: torch.Tensor | None = None
    for _ in range(5):
        _run(optimisation, 1)
        weight = optimisation.restorer.network.weight.detach().clone()
        expected = weight if expected is None else 0.9 * expected + 0.1 * weight
    assert torch.allclose(optimisation.result.network.weight, expected)  # type: ignore[arg-type]
    assert not torch.allclose(optimisation.result.network.weight, optimisation.restorer.network.weight)
    plain = _optimisation()
    assert plain.result is plain.restorer


def test_half_precision_is_the_restorers_alone() -> None:
    optimisation, seen = _optimisation(precision="bf16"), []
    optimisation.restorer.network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    half = _run(optimisation, 3)
    assert set(seen) == {torch.bfloat16}
    assert {weight.dtype for weight in optimisation.weights} == {torch.float32}
    full = _run(_optimisation(), 3)
    assert half != full
    norms = [[entry["gradient_norm"] for entry in logs] for logs in (half, full)]
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(TrainingError, match=r"precision: fp16 needs a GPU\. Choose auto, bf16 or full"):
        _optimisation(precision="fp16")


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_an_overflow_is_skipped_until_no_lower_scale_is_left() -> None:
    optimisation = Optimisation(Restorer(_Root(), "test", {}, 1).train(), SETTINGS)
    optimisation.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = optimisation.restorer.network.after.weight.detach().clone()  # type: ignore[union-attr, operator]
    for scale in (2, 1):
        logs = optimisation.step(optimisation.restorer(torch.zeros(1, 3, 8, 8)).mean())
        assert "gradient_norm" not in logs and optimisation.scaler.get_scale() == scale
    assert torch.equal(optimisation.restorer.network.after.weight, before)  # type: ignore[union-attr, arg-type]
    with pytest.raises(TrainingError, match="the gradient is"):
        optimisation.step(optimisation.restorer(torch.zeros(1, 3, 8, 8)).mean())


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_skips_an_overflow_and_goes_on() -> None:
    torch.manual_seed(0)
    optimisation = Optimisation(Restorer(nn.Conv2d(3, 3, 1), "test", {}, 1).cuda().train(), _with(precision="fp16"))
    before = optimisation.scaler.get_scale()
    weight = optimisation.weights[0].detach().clone()
    images = torch.rand(1, 3, 8, 8, device="cuda")
    with optimisation.precision():
        assert optimisation.restorer(images).dtype == torch.float16
        loss = optimisation.restorer(images).float().mean() * 1e4
    optimisation.step(loss)
    assert optimisation.scaler.get_scale() < before and torch.equal(weight, optimisation.weights[0])
    for _ in range(20):
        with optimisation.precision():
            loss = optimisation.restorer(images).float().mean() * 1e4
        optimisation.step(loss)
    assert not torch.equal(weight, optimisation.weights[0])


def test_a_restorer_without_weights() -> None:
    with pytest.raises(TrainingError, match="restorer test: it has no trainable weights"):
        Optimisation(Restorer(nn.Identity(), "test", {}, 1), SETTINGS)


class _Batches:
    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        return images, images * 0.5

    def ids(self, step: int) -> list[str]:
        return [f"a{step}", f"b{step}"]


class _Faulty(nn.Module):
    """Fails at step 2: a component, or the gradient while all components are fine."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.calls = fault, 0

    needs_labels = False

    def forward(
        self, restored: torch.Tensor, clean: torch.Tensor, generator: torch.Generator, labels: None
    ) -> ObjectiveOutput:
        pixel = (restored - clean).abs().mean()
        strange = (restored - restored.detach()).abs().sum()
        if self.calls == 2:
            strange = strange / 0 if self.fault == "component" else (restored - restored).sum().sqrt()
        self.calls += 1
        return ObjectiveOutput(pixel + strange, {"pixel": pixel.item(), "strange": strange.item()})


class _Root(nn.Module):
    """Its gradient is infinite where its input is black, though its output is fine."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self.after(self.before(images).abs().sqrt())
        return restored


def test_a_gradient_that_breaks_inside_the_restorer() -> None:
    optimisation = Optimisation(Restorer(_Root(), "test", {}, 1).train(), SETTINGS)
    before = optimisation.restorer.network.after.weight.detach().clone()  # type: ignore[union-attr, operator]
    loss = optimisation.restorer(torch.zeros(1, 3, 8, 8)).mean()
    with pytest.raises(TrainingError, match=r"1 of 3 weights, such as network\.before\.weight.*inside of the restorer"):
        optimisation.step(loss)
    assert torch.equal(optimisation.restorer.network.after.weight, before)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("component", "step 2: the objective is not finite in loss, strange; images a2, b2. Lower "),
        (
            "gradient",
            r"step 2: the gradient is nan in (\d+) of \1 weights, .*from the objective's gradient; images a2",
        ),
    ],
)
def test_what_is_not_finite_is_named(fault: str, message: str, tmp_path: Any) -> None:
    loop = Loop("test", tmp_path, 0, torch.device("cpu"))
    with pytest.raises(TrainingError, match=message):
        train_restorer(_Batches(), _Faulty(fault), SETTINGS, loop)
    assert sorted(loop.curve) == [1, 2]
