"""The loss `features`: any pretrained encoder as a control for losses with a diffusion prior or a task network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.losses import LossError, build_objective, read_settings
from models.losses.features import Encoder, Settings, build_encoder
from pipeline.objective import _files
from pipeline.settings.params import ParamsError, load_params
from pipeline.settings.plugins import check_section

PARAMS = load_params(Path(__file__).parents[1] / "params.tiny.yaml")
ENCODERS = Path(__file__).parents[2] / "shared" / "assets" / "encoders"
SMALL = {"encoder": "tu-mobilenetv3_small_050", "weights": "untrained"}
REAL = [("mobilenet_v2", "mobilenet_v2"), ("tu-tf_efficientnet_lite0", "tf_efficientnet_lite0")]


def _objective(**settings: Any) -> Any:
    return build_objective({"pixel": ("pixel", {"kind": "l1"}), "features": ("features", {**SMALL, **settings})})


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    clean = torch.rand(2, 3, 40, 56)  # sides that are no multiples of 32
    return (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1), clean


def test_it_trains_a_restorer_at_its_strength_and_keeps_the_encoder() -> None:
    restored, clean = _pair()
    restorer, objective = nn.Conv2d(3, 3, 3, padding=1), _objective(strength=0.5)
    before = {name: value.clone() for name, value in objective._terms[0].state_dict().items()}
    output = objective(restorer(restored), clean, generator=torch.Generator())
    output.total.backward()
    assert output.logs["features"] > 0 and output.logs["features_ratio"] == pytest.approx(0.5)
    assert restorer.weight.grad is not None and restorer.weight.grad.abs().sum() > 0
    objective.train()
    assert all(torch.equal(value, before[name]) for name, value in objective._terms[0].state_dict().items())


def test_the_value_is_the_mean_over_the_chosen_layers() -> None:
    restored, clean = _pair()
    network = Encoder(Settings(**SMALL, layers=(1, 4)))
    with torch.no_grad():
        pairs = list(zip(network(restored), network(clean), strict=True))
        expected = sum(float(((z - x) ** 2).mean() / (x**2).mean()) for z, x in pairs) / 2
        value = _objective(layers=(1, 4))(restored, clean, generator=torch.Generator()).logs["features"]
        same = _objective()(clean, clean, generator=torch.Generator()).logs["features"]
    assert [part.shape[2:] for part, _ in pairs] == [(32, 32), (4, 4)] and value == pytest.approx(expected, rel=1e-4)
    assert same == 0


def test_random_weights_are_the_same_every_time_and_leave_the_random_state() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (build_encoder("mobilenet_v2").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not ENCODERS.is_dir(), reason="needs ../shared/assets/encoders")
@pytest.mark.parametrize(("encoder", "file"), REAL)
def test_published_weights(encoder: str, file: str) -> None:
    path = ENCODERS / f"{file}.safetensors"
    network, stored = Encoder(Settings(encoder=encoder, weights=str(path))), load_file(path)
    loaded = {name.removeprefix("model."): value for name, value in network.network.state_dict().items()}
    names = [name for name in loaded if not name.endswith("num_batches_tracked")]
    assert len(names) > 200 and all(torch.equal(loaded[name], stored[name]) for name in names)
    assert read_settings("x", "features", {"encoder": encoder, "weights": str(path)}).files == [path]


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(LossError, match=r"other\.safetensors: not those of mobilenet_v2; it lacks .*features\.0"):
        Encoder(Settings(weights=str(tmp_path / "other.safetensors")))
    (tmp_path / "damaged.safetensors").write_bytes(b"no tensors")
    with pytest.raises(LossError, match="not readable as safetensors"):
        Encoder(Settings(weights=str(tmp_path / "damaged.safetensors")))


def test_mistakes() -> None:
    with pytest.raises(LossError, match=r"features: weights: name a \.safetensors file with an encoder's weights"):
        _objective(weights=None)
    with pytest.raises(LossError, match="features: encoder: 'resnetto' is no encoder"):
        _objective(encoder="resnetto")
    with pytest.raises(ParamsError, match=r"losses\.features\.weights: there is no file nowhere\.safetensors\. Put a"):
        check_section("losses", "features", {"weights": "nowhere.safetensors"}, "losses.features")
    with pytest.raises(ParamsError, match=r"losses\.features\.layers\.0: .*less than or equal to 5"):
        check_section("losses", "features", {"layers": [6]}, "losses.features")


def test_the_stage_objective_depends_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(b"anything")
    losses = {"features": ("features", {"weights": str(path)}), "pixel": ("pixel", {})}
    assert _files("features", losses, PARAMS) == [path]
    assert _files("features", {"features": ("features", {"weights": "untrained"})}, PARAMS) == []
