import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from models.diffusion.networks import LatentNetwork
from models.diffusion.prior import DiffusionPrior, PriorError
from models.diffusion.schedule import NoiseSchedule, ScheduleError

Prediction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def tiny_unet(**changes: Any) -> UNet2DModel:
    settings: dict[str, Any] = {
        "sample_size": 16,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(**settings | changes)


def tiny_prior(**changes: Any) -> DiffusionPrior:
    return DiffusionPrior(tiny_unet(), DDPMScheduler(**changes))


def tiny_latent_prior() -> DiffusionPrior:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.5,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(16, 32),
            norm_num_groups=8,
            cross_attention_dim=12,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            attention_head_dim=4,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
    prompt = torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(4))
    return DiffusionPrior(LatentNetwork(unet, vae, prompt), DDPMScheduler())


def noisy_input(channels: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    noisy = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(1))
    return noisy, torch.tensor([0, 500, 999])


def assert_frozen(prior: nn.Module) -> None:
    assert list(prior.parameters())
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    assert not any(module.training for module in prior.modules())


def test_features_equal_the_full_forward_pass_with_a_hook() -> None:
    prior = tiny_prior()
    noisy, timesteps = noisy_input()
    seen: list[Tensor] = []
    with prior.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output)):
        direct = prior.unet(noisy, timesteps).sample
    features = prior(noisy, timesteps)
    assert torch.equal(features.noise, direct)
    assert torch.equal(features.hspace, seen[0])
    assert torch.equal(prior.hspace(noisy, timesteps), seen[0])


@pytest.mark.parametrize("make", [tiny_prior, tiny_latent_prior])
def test_maps_at_every_layer_are_those_of_a_full_pass(make: Callable[[], DiffusionPrior]) -> None:
    prior = make()
    noisy, timesteps = noisy_input(int(prior.unet.config.in_channels))
    everything = prior.maps(noisy, timesteps, prior.layers)
    assert list(everything) == prior.layers and prior.layers[0] == "down0" and prior.layers[-1] == "noise"
    assert torch.equal(everything["noise"], prior(noisy, timesteps).noise)
    assert torch.equal(everything["middle"], prior(noisy, timesteps).hspace)
    for name in prior.layers:
        (alone,) = prior.maps(noisy, timesteps, [name]).values()
        assert torch.equal(alone, everything[name])


def test_maps_run_the_decoder_only_as_far_as_they_need() -> None:
    prior = tiny_prior()
    prior.unet.up_blocks[1].register_forward_hook(lambda *ignored: pytest.fail("the second decoder block ran"))
    assert list(prior.maps(*noisy_input(), ["up0", "middle"])) == ["up0", "middle"]
    with pytest.raises(PriorError, match="no layer 'up9'; there are down0, down1, middle, up0, up1, noise"):
        prior.maps(*noisy_input(), ["up9"])


def test_hspace_never_runs_the_decoder() -> None:
    prior = tiny_prior()
    prior.unet.up_blocks[0].register_forward_hook(lambda *ignored: pytest.fail("the decoder ran"))
    prior.hspace(*noisy_input())


def test_learned_variance_is_dropped() -> None:
    prior = DiffusionPrior(tiny_unet(out_channels=6), DDPMScheduler())
    noisy, timesteps = noisy_input()
    assert torch.equal(prior(noisy, timesteps).noise, prior.unet(noisy, timesteps).sample[:, :3])


def test_forward_diffusion_against_numpy() -> None:
    prior = tiny_prior()
    image, timesteps = noisy_input()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[timesteps.numpy()].reshape(-1, 1, 1, 1)
    wanted = np.sqrt(kept) * image.numpy() + np.sqrt(1 - kept) * noise.numpy()
    np.testing.assert_allclose(prior.add_noise(image, noise, timesteps).numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "predict"),
    [
        ("epsilon", lambda image, noise, signal, spread: noise),
        ("v_prediction", lambda image, noise, signal, spread: signal * noise - spread * image),
        ("sample", lambda image, noise, signal, spread: image),
    ],
)
def test_every_prediction_type_gives_back_the_noise(kind: str, predict: Prediction) -> None:
    schedule = NoiseSchedule(torch.linspace(0.99, 0.01, 1000), kind)
    image, timesteps = noisy_input()
    image = image.double()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kept = torch.linspace(0.99, 0.01, 1000)[timesteps].double().reshape(-1, 1, 1, 1)
    prediction = predict(image, noise, kept.sqrt(), (1 - kept).sqrt())
    noisy = schedule.add_noise(image, noise, timesteps)
    torch.testing.assert_close(schedule.to_noise(prediction, noisy, timesteps), noise, rtol=1e-6, atol=1e-6)


def test_prediction_type_of_the_scheduler_is_honoured() -> None:
    noisy, timesteps = noisy_input()
    plain, velocity = tiny_prior()(noisy, timesteps).noise, tiny_prior(prediction_type="v_prediction")
    kept = velocity.schedule.alphas_cumprod[timesteps].float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(velocity(noisy, timesteps).noise, kept.sqrt() * plain + (1 - kept).sqrt() * noisy)


@pytest.mark.parametrize("make", [tiny_prior, tiny_latent_prior])
def test_prior_stays_frozen_and_in_eval(make: Callable[[], DiffusionPrior]) -> None:
    prior = make()
    assert_frozen(prior)
    prior.train()
    prior.requires_grad_()
    prior.to(torch.float64).to(torch.float32)
    prior.load_state_dict(prior.state_dict())
    nn.ModuleList([prior]).train()
    assert_frozen(prior)
    nn.ModuleList([prior]).requires_grad_()  # reaches the parameters themselves
    prior.unet.train()
    channels = int(prior.unet.config.in_channels)
    prior.hspace(*noisy_input(channels, 8))
    assert_frozen(prior)


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    prior = tiny_prior(beta_schedule="scaled_linear", prediction_type="v_prediction")
    prior.save(tmp_path)
    loaded = DiffusionPrior.load(tmp_path)
    assert_frozen(loaded)
    for one, other in zip(prior(*noisy_input()), loaded(*noisy_input()), strict=True):
        assert torch.equal(one, other)


def test_folder_without_subfolders_and_another_sampler_loads(tmp_path: Path) -> None:
    prior = tiny_prior()
    prior.unet.save_pretrained(tmp_path)
    DDIMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(tmp_path)
    loaded = DiffusionPrior.load(str(tmp_path))
    expected = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    assert torch.equal(loaded.schedule.alphas_cumprod, expected)


def test_absent_folder_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PriorError, match="no unet found"):
        DiffusionPrior.load(tmp_path)


def test_class_conditional_prior_uses_its_null_class(tmp_path: Path) -> None:
    unet = tiny_unet(num_class_embeds=7)
    with pytest.raises(PriorError, match="null_class"):
        DiffusionPrior(unet, DDPMScheduler())
    with pytest.raises(PriorError, match="below 7"):
        DiffusionPrior(unet, DDPMScheduler(), null_class=7)
    with pytest.raises(PriorError, match="below 0"):
        DiffusionPrior(tiny_unet(), DDPMScheduler(), null_class=1)
    prior = DiffusionPrior(unet, DDPMScheduler(), null_class=6)
    noisy, timesteps = noisy_input()
    assert torch.equal(prior(noisy, timesteps).noise, unet(noisy, timesteps, torch.full((3,), 6)).sample)
    prior.save(tmp_path)
    assert DiffusionPrior.load(tmp_path).null_class == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mid_block_type": None}, "no middle block"),
        ({"time_embedding_type": "fourier"}, "fourier"),
        ({"down_block_types": ("SkipDownBlock2D",) * 2, "up_block_types": ("SkipUpBlock2D",) * 2}, "Skip"),
        ({"class_embed_type": "timestep"}, "class embedding"),
    ],
)
def test_networks_without_hspace_or_schedule_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PriorError, match=message):
        DiffusionPrior(tiny_unet(**change), DDPMScheduler())


def test_something_else_is_refused() -> None:
    with pytest.raises(PriorError, match="Conv2d"):
        DiffusionPrior(nn.Conv2d(3, 3, 1), DDPMScheduler())
    with pytest.raises(ScheduleError, match="alphas_cumprod"):
        DiffusionPrior(tiny_unet(), object())
    with pytest.raises(ScheduleError, match="flow"):
        NoiseSchedule(torch.linspace(0.9, 0.1, 10), "flow")


@pytest.mark.parametrize(
    ("noisy", "timesteps", "message"),
    [
        (torch.zeros(2, 3, 15, 16), torch.zeros(2, dtype=torch.int64), "multiples of 2"),
        (torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64), r"\(N,3,H,W\)"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(3, dtype=torch.int64), r"\(2,\)"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2), "integers"),
        (torch.zeros(2, 3, 16, 16), torch.tensor([0, 1000]), "0 to 999"),
        (torch.zeros(2, 3, 16, 16), torch.tensor([-1, 5]), "0 to 999"),
    ],
)
def test_wrong_inputs_are_named(noisy: Tensor, timesteps: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_prior()(noisy, timesteps)


def test_checkpointing_changes_nothing() -> None:
    noisy, timesteps = noisy_input()
    gradients = []
    for checkpointed in (False, True):
        prior, leaf = tiny_prior(), noisy.clone().requires_grad_()
        if checkpointed:
            prior.checkpoint()
        prior(leaf, timesteps).noise.square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiling_changes_nothing() -> None:
    noisy, timesteps = noisy_input()
    plain, compiled, leaf = tiny_prior(), tiny_prior(), noisy.clone().requires_grad_()
    compiled.compile_passes()
    torch.testing.assert_close(compiled(leaf, timesteps).noise, plain(noisy, timesteps).noise, rtol=1e-4, atol=1e-5)
    compiled(leaf, timesteps).hspace.square().sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_latent_prior_sees_images_through_its_vae(tmp_path: Path) -> None:
    prior = tiny_latent_prior()
    assert prior.size_multiple == 4
    image = (torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1).requires_grad_()
    latents = prior.encode(image)
    assert torch.equal(latents, prior.network.vae.encode(image).latent_dist.mean * 0.5)
    timesteps = torch.tensor([3, 400, 800])
    features = prior(latents, timesteps)
    direct = prior.unet(latents, timesteps, encoder_hidden_states=prior.network.empty_prompt.expand(3, -1, -1)).sample
    assert torch.equal(features.noise, direct)
    assert torch.equal(prior.hspace(latents, timesteps), features.hspace)
    features.hspace.sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    prior.save(tmp_path)
    loaded = DiffusionPrior.load(tmp_path)
    assert torch.equal(loaded(latents, timesteps).noise, features.noise)
    (tmp_path / "empty_prompt.safetensors").unlink()
    with pytest.raises(PriorError, match="empty prompt"):
        DiffusionPrior.load(tmp_path)


def test_null_class_file_is_plain_json(tmp_path: Path) -> None:
    DiffusionPrior(tiny_unet(num_class_embeds=3), DDPMScheduler(), null_class=2).save(tmp_path)
    assert json.loads((tmp_path / "null_class.json").read_text()) == {"null_class": 2}
