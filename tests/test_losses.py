import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from test_prior import tiny_prior
from torch import Tensor, nn

from models.losses import (
    LOSSES,
    LossError,
    build_objective,
    get_loss,
    get_settings,
    needs_labels,
    needs_prior,
    needs_task,
)
from models.losses.diffusion_terms import untrained
from models.losses.lpips import BACKBONE_FILES, load_network
from models.losses.objective import Objective
from models.losses.pixel import PIXEL_LOSSES
from models.losses.term import Loss
from models.settings import Settings
from pipeline.settings.grammar import GrammarError, objective_losses


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair() -> tuple[Tensor, Tensor]:
    drawn = torch.rand(2, 2, 3, 16, 16, generator=generator(3))
    return (0.8 * drawn[0] + 0.2 * drawn[1]), drawn[0]


class TaskNetwork(nn.Module):
    """Two layers of features, the second a thousand times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.first(images).tanh()
        return [first, 1000 * self.second(first)]


LABELS = torch.arange(2 * 14 * 14).reshape(2, 14, 14) % 4


def task_loss(images: Tensor, labels: Any) -> Tensor:
    """The cross-entropy of the first layer of a `TaskNetwork` with the weights of seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.functional.cross_entropy(TaskNetwork()(images)[0], labels)


def build(name: str, settings: dict[str, Any] | None = None) -> Objective:
    losses = objective_losses(name, settings or {})
    return build_objective(losses, prior_folder=tiny_prior(), task_features=TaskNetwork(), task_loss=task_loss)


def gradient(objective: Objective, seed: int = 0) -> tuple[Tensor, dict[str, float]]:
    restored, clean = pair()
    leaf = restored.clone().requires_grad_()
    output = objective(leaf, clean, generator(seed), LABELS)
    return torch.autograd.grad(output.total, leaf)[0], output.logs


def test_every_entry_of_the_table_has_a_class_and_settings_with_defaults() -> None:
    for kind in LOSSES:
        assert issubclass(get_loss(kind), Loss)
        assert issubclass(get_settings(kind), Settings) and get_settings(kind)()
    with pytest.raises(LossError, match="loss 'perceptual' is unknown; there are pixel, "):
        get_loss("perceptual")


def test_what_the_losses_of_an_objective_need() -> None:
    losses = {name: (name, {}) for name in LOSSES}
    assert {name for name in LOSSES if needs_prior({name: losses[name]})} >= {"natural", "semantic", "diffloss"}
    assert {name for name in LOSSES if needs_task({name: losses[name]})} >= {"task", "recognition"}
    assert needs_labels(losses) and not needs_labels({"task": losses["task"]})
    assert not needs_prior({"pixel": losses["pixel"]}) and not needs_task({"pixel": losses["pixel"]})
    assert needs_prior(losses) and needs_task(losses) and not needs_prior({})


def test_objective_names_are_sums_and_always_hold_the_pixel_loss() -> None:
    assert list(objective_losses("pixel", {})) == ["pixel"]
    assert (
        list(objective_losses("diffloss", {}))
        == list(objective_losses("pixel + diffloss", {}))
        == ["pixel", "diffloss"]
    )
    assert list(objective_losses("task+lpips", {})) == ["pixel", "task", "lpips"]
    with pytest.raises(GrammarError, match=r"'perceptual' is unknown\. Choose one of pixel, natural"):
        objective_losses("pixel + perceptual", {})
    with pytest.raises(GrammarError, match="occurs twice"):
        objective_losses("natural + natural", {})


def test_an_objective_needs_a_pixel_loss() -> None:
    for losses in ({}, {"task": ("task", {})}, {"task": ("task", {}), "pixel": ("pixel", {})}):
        with pytest.raises(LossError, match="expected a pixel loss first"):
            build_objective(losses, task_features=TaskNetwork())


def test_a_variant_of_the_pixel_loss_stands_in_its_place() -> None:
    settings = {"square": {"base": "pixel", "kind": "l2"}, "natural": {"weighting": "raw"}}
    assert list(objective_losses("square", settings)) == ["square"]
    assert list(objective_losses("natural + square", settings)) == ["square", "natural"]
    torch.testing.assert_close(
        gradient(build("square", settings))[0], gradient(build("pixel", {"pixel": {"kind": "l2"}}))[0]
    )
    both, named = build("square + natural", settings), build("natural", {**settings, "pixel": {"kind": "l2"}})
    torch.testing.assert_close(gradient(both)[0], gradient(named)[0])
    with pytest.raises(GrammarError, match=r"square and pixel are both pixel losses\. Choose one"):
        objective_losses("square + pixel", settings)


def test_a_variant_is_its_loss_with_settings_of_its_own() -> None:
    settings = {"strong": {"base": "natural", "strength": 2.0}, "natural": {"strength": 0.5}}
    logs = {name: gradient(build(name, settings))[1] for name in ("natural", "strong")}
    assert logs["natural"]["natural"] == logs["strong"]["natural"]
    assert logs["strong"]["natural_ratio"] == pytest.approx(4 * logs["natural"]["natural_ratio"])
    with pytest.raises(GrammarError, match=r"'weak' is unknown. Choose one of pixel, .*, strong, l2, paper, a sum"):
        objective_losses("weak", settings)
    with pytest.raises(LossError, match="component occurs twice"):
        build("natural + diffloss")


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("l1", lambda d: np.abs(d).mean()),
        ("l2", lambda d: (d**2).mean()),
        ("charbonnier", lambda d: np.sqrt(d**2 + 1e-6).mean()),
    ],
)
def test_pixel_losses_against_numpy(kind: str, formula: Any) -> None:
    restored, clean = pair()
    assert float(PIXEL_LOSSES[kind](restored, clean)) == pytest.approx(formula((restored - clean).numpy()), rel=1e-5)
    leaf = restored.clone().requires_grad_()
    expected = torch.autograd.grad(PIXEL_LOSSES[kind](leaf, clean), leaf)[0]
    torch.testing.assert_close(gradient(build("pixel", {"pixel": {"kind": kind}}))[0], expected)


def test_frequency_against_numpy() -> None:
    restored, clean = pair()
    spectra = np.fft.rfft2(restored.numpy()) - np.fft.rfft2(clean.numpy())
    expected = (np.abs(spectra.real).mean() + np.abs(spectra.imag).mean()) / 2
    assert gradient(build("frequency"))[1]["frequency"] == pytest.approx(expected, rel=1e-5)


# These have their own tests: they need weights from elsewhere.
ELSEWHERE = ("lpips", "features")


@pytest.mark.parametrize(
    "name", [*(name for name in LOSSES if name not in ELSEWHERE), "natural + semantic", "task + diffloss"]
)
def test_every_objective_trains_every_weight_of_a_restorer(name: str) -> None:
    restored, clean = pair()
    restorer = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1))
    output = build(name)(restorer(restored), clean, generator(), LABELS)
    output.total.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in restorer.parameters())
    assert set(objective_losses(name, {})) - {"diffloss"} <= set(output.logs)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("pixel", "diffloss", *ELSEWHERE)])
@pytest.mark.parametrize("strength", [0.25, 2.0])
def test_strength_is_the_ratio_of_gradient_norms(name: str, strength: float) -> None:
    pixel = gradient(build("pixel"))[0]
    total, logs = gradient(build(name, {name: {"strength": strength}}))
    assert float((total - pixel).norm() / pixel.norm()) == pytest.approx(strength, rel=1e-3)
    assert logs[f"{name}_ratio"] == pytest.approx(strength)


def test_strength_does_not_depend_on_the_scale_of_the_term() -> None:
    plain, scaled = TaskNetwork(), TaskNetwork()
    scaled.load_state_dict(plain.state_dict())
    totals = []
    for features in (plain, lambda images: [7 * layer for layer in scaled(images)]):
        totals.append(gradient(build_objective(objective_losses("task", {}), task_features=features))[0])
    torch.testing.assert_close(totals[0], totals[1])


@pytest.mark.parametrize(("kind", "factor"), [("l1", 2.0), ("l2", 4.0)])
def test_raw_weights_mean_images_in_the_symmetric_range(kind: str, factor: float) -> None:
    """gamma on [-1,1] images: the whole objective there is `factor` times ours."""
    settings = {"pixel": {"kind": kind}, "natural": {"weighting": "raw", "natural_weight": 0.3}}
    total, logs = gradient(build("natural", settings))
    restored, clean = pair()
    leaf = restored.clone().requires_grad_()
    objective = build("natural", settings)
    term = objective._terms[0](leaf, clean, generator())["natural"]
    symmetric = PIXEL_LOSSES[kind](2 * leaf - 1, 2 * clean - 1) + 0.3 * term
    wanted = torch.autograd.grad(symmetric, leaf)[0] / factor
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-9)
    assert logs["natural"] == pytest.approx(term.item())


def test_both_terms_of_diffloss_get_the_strength_each() -> None:
    pixel = gradient(build("pixel"))[0]
    parts = [gradient(build(name))[0] - pixel for name in ("natural", "semantic")]
    torch.testing.assert_close(gradient(build("diffloss"))[0], pixel + parts[0] + parts[1], rtol=1e-3, atol=1e-7)


def test_every_kth_step_only_with_the_weight_made_up() -> None:
    pixel = gradient(build("pixel"))[0]
    objective = build("natural", {"natural": {"every": 3, "strength": 0.5}})
    shares = [float((gradient(objective)[0] - pixel).norm() / pixel.norm()) for _ in range(6)]
    assert shares == pytest.approx([1.5, 0, 0, 1.5, 0, 0], rel=1e-3, abs=1e-6)


def test_from_a_step_on_only() -> None:
    pixel = gradient(build("pixel"))[0]
    late, whole = (build("natural", {"natural": {"from_step": step, "every": 2}}) for step in (3, 0))
    shares = [float((gradient(late)[0] - pixel).norm() / pixel.norm()) for _ in range(6)]
    assert shares == pytest.approx([0, 0, 0, 1.0, 0, 1.0], rel=1e-3, abs=1e-6)
    assert int(late.counts[1]) == 2  # measured at consecutive evaluations, from the first one on
    with torch.no_grad():  # validation sees the whole loss, whatever the step
        assert set(late(*pair(), generator()).logs) == set(whole(*pair(), generator()).logs)


def test_norms_are_measured_at_the_stated_steps_and_kept_between() -> None:
    objective = build("natural", {"natural": {"calibrate_every": 4}})
    counts = []
    for seed in range(9):
        gradient(objective, seed)
        counts.append(int(objective.counts[1]))
    assert counts == [1, 2, 3, 4, 5, 5, 5, 5, 6]


def test_the_ratio_follows_a_change_within_five_measurements() -> None:
    """The features grow tenfold; the realised ratio is measured here from the total gradient at every step."""
    scale = 1.0
    network = TaskNetwork()
    inputs = {"task": {"strength": 1.0, "calibrate_every": 4, "weighting": "ratio"}}
    objective = build_objective(
        objective_losses("task", inputs), task_features=lambda images: [network.first(images).tanh()]
    )
    objective._terms[0].forward = lambda restored, clean, generator: {  # type: ignore[method-assign]
        "task": scale * (network.first(restored) - network.first(clean)).square().mean()
    }
    pixel = gradient(build("pixel"))[0]
    ratios = []
    for step in range(64):
        scale = 1.0 if step < 20 else 10.0
        ratios.append(float((gradient(objective)[0] - pixel).norm() / pixel.norm()))
    assert ratios[:20] == pytest.approx([1.0] * 20, rel=1e-3)
    assert ratios[20] == pytest.approx(10 / 2.8, rel=1e-3)  # the mean has taken in one of five
    assert max(ratios[20 + 5 * 4 :]) < 1.5 and ratios[-1] == pytest.approx(1.0, abs=0.1)


def test_the_realised_ratio_over_a_training_is_the_strength() -> None:
    """A restorer learns, and the gradient of the term falls to a small part: the ratio must not follow it."""
    torch.manual_seed(0)
    objective = build("task", {"task": {"strength": 0.5}})
    restorer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    optimiser = torch.optim.Adam(restorer.parameters(), 3e-3)
    norms, ratios, logged = [], [], []
    for step in range(200):
        clean = torch.rand(2, 3, 16, 16, generator=generator(step))
        restored = clean * 0.3 + 0.6 + restorer(clean * 0.3 + 0.6)
        leaf = restored.detach().requires_grad_()
        pixel = torch.autograd.grad((leaf - clean).abs().mean(), leaf)[0]
        output = objective(restored, clean, generator(step))
        total = torch.autograd.grad(output.total, restored, retain_graph=True)[0]
        ratios.append(float((total - pixel).norm() / pixel.norm()))
        norms.append(float(objective.norms[1]))
        if "task_ratio" in output.logs:
            logged.append((output.logs["task_ratio"], ratios[-1]))
        optimiser.zero_grad()
        output.total.backward()
        optimiser.step()
    assert norms[-1] < norms[0] / 2  # otherwise a fixed weight would pass, too
    assert np.mean(ratios[:50]) == pytest.approx(0.5, rel=0.2) and np.mean(ratios[50:]) == pytest.approx(0.5, rel=0.2)
    assert len(logged) == 5 + 19 and all(told == pytest.approx(real, rel=1e-3) for told, real in logged)


def test_a_resumed_objective_goes_on_bit_for_bit() -> None:
    whole, first, second = (build("diffloss", {"diffloss": {"every": 2}}) for _ in range(3))
    expected = [gradient(whole, seed)[0] for seed in range(8)]
    for seed in range(4):
        gradient(first, seed)
    assert set(first.state_dict()) == {"step", "norms", "pixel_norms", "counts"}
    second.load_state_dict(first.state_dict())
    for seed in range(4, 8):
        assert torch.equal(gradient(second, seed)[0], expected[seed])


def test_frozen_networks_are_no_parameters_but_follow_the_objective() -> None:
    objective = build("diffloss")
    assert not list(objective.parameters())
    objective.to(torch.float64)
    assert objective._terms[0].diffloss.prior.dtype == torch.float64


def test_an_untrained_prior_is_a_control_with_the_same_architecture() -> None:
    trained = tiny_prior()
    state = torch.random.get_rng_state()
    random, again = untrained(trained, seed=1), untrained(trained, seed=1)  # 0 drew the "trained" weights
    assert torch.equal(torch.random.get_rng_state(), state)
    ours, theirs = trained.network.unet.state_dict(), random.network.unet.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    weights = [name for name, value in ours.items() if value.ndim > 1]
    assert weights and not any(torch.equal(ours[name], theirs[name]) for name in weights)
    assert all(torch.equal(value, theirs[name]) for name, value in again.network.unet.state_dict().items())
    losses = {"random": {"base": "diffloss", "prior": "untrained"}}
    control, loss = gradient(build("random", losses)), gradient(build("diffloss"))
    assert control[1]["natural"] != loss[1]["natural"] and control[1]["natural_ratio"] == pytest.approx(0.5)


def test_a_loss_can_have_a_prior_of_its_own(tmp_path: Path) -> None:
    other = untrained(tiny_prior(), seed=1)
    other.save(tmp_path / "prior")
    losses = {"other": {"base": "diffloss", "prior": str(tmp_path / "prior")}}
    expected = build_objective(objective_losses("diffloss", {}), prior_folder=other)
    slope = gradient(build("other", losses))[0]
    assert torch.equal(slope, gradient(expected)[0]) and not torch.equal(slope, gradient(build("diffloss"))[0])


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"timesteps": (0, 200)}, "timestep range 0..200: expected 0 <= low < high <= 100"),
        ({"timesteps": (0, 50), "timesteps_of": {"fog": (50, 101)}}, "timestep range 50..101"),
        ({"timesteps": (0, 50), "layers": ("up9",)}, "prior: .*up9"),
    ],
)
def test_settings_that_do_not_fit_a_prior_of_its_own(tmp_path: Path, settings: dict[str, Any], error: str) -> None:
    tiny_prior(num_train_timesteps=100).save(tmp_path)
    get_loss("diffloss").check(get_settings("diffloss")(prior=str(tmp_path), timesteps=(0, 100)))
    with pytest.raises(LossError, match=error):
        get_loss("diffloss").check(get_settings("diffloss")(**{"prior": str(tmp_path), **settings}))


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_that_is_no_prior(tmp_path: Path, name: str) -> None:
    folder = str(tmp_path / name)
    with pytest.raises(LossError, match=rf"prior: {re.escape(folder)}.*\. Choose another folder"):
        get_loss("diffloss").check(get_settings("diffloss")(prior=folder))


def test_raw_output_may_leave_the_range() -> None:
    restored, clean = pair()
    leaf = (restored * 1.6 - 0.3).requires_grad_()
    assert leaf.min() < 0 and leaf.max() > 1
    output = build("diffloss")(leaf, clean, generator())
    slope = torch.autograd.grad(output.total, leaf)[0]
    assert output.logs["pixel"] == pytest.approx((leaf - clean).abs().mean().item())
    assert torch.isfinite(slope).all() and slope[leaf > 1].abs().min() > 0


def test_without_gradient_nothing_is_counted() -> None:
    restored, clean = pair()
    objective = build("diffloss", {"diffloss": {"every": 5}})
    gradient(objective)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    with torch.no_grad():
        output = objective(restored, clean, generator())
    assert {"pixel", "natural", "semantic"} <= set(output.logs)
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())


def test_a_term_without_gradient_adds_nothing() -> None:
    clean = pair()[1]
    leaf = clean.clone().requires_grad_()
    output = build("diffloss")(leaf, clean, generator())
    assert torch.equal(torch.autograd.grad(output.total, leaf)[0], torch.zeros_like(leaf))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "natural",
            {"natural": {"strenght": 1}},
            "loss 'natural': strenght: unknown key; there are: weight",
        ),
        ("natural", {"natural": {"every": 0}}, "every: Input should be greater than or equal to 1, got 0"),
        ("natural", {"natural": {"calibrate_every": 0}}, "calibrate_every: Input should be greater"),
        ("natural", {"natural": {"strength": -1}}, "strength: Input should be greater than or equal to 0"),
        ("natural", {"natural": {"strength": float("inf")}}, "strength: Input should be a finite number"),
        ("natural", {"natural": {"from_step": -1}}, "from_step: Input should be greater than or equal to 0"),
        ("late", {"late": {"base": "diffloss", "draws": 0}}, "loss 'late': draws: Input should be greater"),
        ("diffloss", {"diffloss": {"timesteps": [0, 2000]}}, "timestep range"),
        (
            "diffloss",
            {"diffloss": {"timestep_sampling": "often"}},
            "timestep_sampling: Input should be 'uniform'",
        ),
        ("diffloss", {"diffloss": {"distance": "euclid"}}, "distance: Input should be 'mse', 'channel' or 'cosine'"),
        ("diffloss", {"diffloss": {"layers": []}}, "layers: Tuple should have at least 1 item"),
        ("diffloss", {"diffloss": {"precision": "int8"}}, "precision: Input should be 'auto', 'float32', 'mixed'"),
        ("diffloss", {"diffloss": {"precision": "bfloat16", "compile": True}}, "use 'autocast'"),
        ("diffloss", {"diffloss": {"precision": "mixed", "checkpointing": True}}, "use 'autocast'"),
        ("diffloss", {"diffloss": {"view": "square"}}, "view: Input should be 'own', 'resize' or 'multi-scale'"),
        ("diffloss", {"diffloss": {"view": "resize", "view_sizes": [8, 16]}}, "view 'resize' needs one view_sizes"),
        ("diffloss", {"diffloss": {"view": "resize", "view_sizes": [0]}}, "view_sizes.0: Input should be greater"),
        ("diffloss", {"diffloss": {"view": "multi-scale", "view_sizes": []}}, "view 'multi-scale' needs at least one"),
        ("diffloss", {"diffloss": {"cache": "disk"}}, "cache: unknown key"),
        (
            "lpips",
            {"lpips": {"backbone": "resnet"}},
            "backbone: Input should be 'alex', 'vgg' or 'squeeze', got",
        ),
        ("pixel", {"pixel": {"kind": "l3"}}, "kind: Input should be 'l1', 'l2' or 'charbonnier', got 'l3'"),
    ],
)
def test_wrong_settings_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LossError, match=re.escape(message)) as caught:
        build(name, settings)
    assert "\n" not in str(caught.value)


def test_missing_networks_are_named() -> None:
    with pytest.raises(LossError, match="'semantic' needs a diffusion prior"):
        build_objective(objective_losses("semantic", {}))
    with pytest.raises(LossError, match="'task' needs the features of a task network: pass task_features"):
        build_objective(objective_losses("task", {}))
    with pytest.raises(LossError, match="no gradient"):
        network = torch.no_grad()(TaskNetwork())
        gradient(build_objective(objective_losses("task", {}), task_features=network))


def test_recognition_is_the_training_loss_of_the_network() -> None:
    objective = build("recognition", {"recognition": {"weighting": "raw", "raw_weight": 0.25}})
    assert objective.needs_labels and not build("task").needs_labels
    restored, clean = pair()
    leaf = restored.clone().requires_grad_()
    total = (leaf - clean).abs().mean() + 0.25 * task_loss(leaf, LABELS)
    output = objective(restored.clone().requires_grad_(), clean, generator(), LABELS)
    assert output.total.item() == pytest.approx(total.item()) and "recognition_ratio" in output.logs
    torch.testing.assert_close(gradient(objective)[0], torch.autograd.grad(total, leaf)[0])
    with pytest.raises(LossError, match="recognition: needs the labels of the images; pass labels"):
        objective(restored.requires_grad_(), clean, generator())
    with pytest.raises(LossError, match="'recognition' needs the training loss of a task network: pass task_loss"):
        build_objective(objective_losses("recognition", {}), task_features=TaskNetwork())
    with pytest.raises(LossError, match="recognition: the network's loss carries no gradient"):
        losses = objective_losses("recognition", {})
        gradient(build_objective(losses, task_loss=torch.no_grad()(task_loss)))


def test_the_prior_is_loaded_once_and_only_if_a_loss_needs_it(tmp_path: Path) -> None:
    prior = tiny_prior()
    prior.save(tmp_path)
    losses = objective_losses("natural + semantic", {})
    loaded = build_objective(losses, prior_folder=str(tmp_path))
    assert loaded._terms[0].diffloss.prior is loaded._terms[1].diffloss.prior
    torch.testing.assert_close(gradient(loaded)[0], gradient(build_objective(losses, prior_folder=prior))[0])
    build_objective(objective_losses("pixel", {}), prior_folder=tmp_path / "absent")


def test_divergence_and_wrong_images_are_named() -> None:
    restored, clean = pair()
    objective = build("pixel")
    with pytest.raises(LossError, match="restored: holds NaN"):
        objective(restored * float("nan"), clean, generator())
    with pytest.raises(LossError, match="clean: expected values"):
        objective(restored, clean * 255, generator())
    with pytest.raises(LossError, match="one shape"):
        objective(restored[:1], clean, generator())


def test_lpips_without_its_backbone_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(LossError, match=r"alexnet-owt-7be5be79\.pth.*TORCH_HOME"):
        build("lpips")


@pytest.mark.parametrize("backbone", ["alex", "squeeze"])
def test_lpips_with_a_backbone_from_a_file_is_torchmetrics_lpips(
    backbone: Literal["alex", "squeeze"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library reads the whole network of torchvision from its cache; the file has its convolutions alone."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    torch.manual_seed(0)
    build_network = {"alex": torchvision.models.alexnet, "squeeze": torchvision.models.squeezenet1_1}[backbone]
    state = build_network(weights=None).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / BACKBONE_FILES[backbone])
    convolutions = {name: value for name, value in state.items() if name.startswith("features.")}
    save_file(convolutions, tmp_path / "mine.safetensors")
    images = torch.rand(2, 2, 3, 64, 64, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = LearnedPerceptualImagePatchSimilarity(net_type=backbone, normalize=True)
    ours = load_network(backbone, str(tmp_path / "mine.safetensors"))
    assert float(ours(*images, normalize=True).mean()) == pytest.approx(float(library(*images)), rel=1e-5)


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning", "ignore:Arguments other than:UserWarning")
def test_lpips_with_a_cached_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random backbone weights in the place of torchvision's: what is tested is the path, not the metric."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    drawn = torch.rand(2, 2, 3, 64, 64, generator=generator())
    leaf = drawn[0].clone().requires_grad_()
    objective = build("lpips", {"lpips": {"backbone": "squeeze"}})
    output = objective(leaf, drawn[1], generator())
    assert torch.autograd.grad(output.total, leaf)[0].abs().sum() > 0
    assert output.logs["lpips"] > 0 and output.logs["lpips_ratio"] == pytest.approx(0.5)
