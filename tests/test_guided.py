import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adm_reference import TINY, reference_run
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.diffusion.adm import build_unet, name_pairs
from models.diffusion.adm_settings import GuidedError, read_settings
from models.diffusion.prior import DiffusionPrior

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is absent")


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"use_new_attention_order": True},
        {"learn_sigma": False, "num_res_blocks": 2, "channel_mult": [1, 1, 3], "attention_downsample_factors": [4]},
        {"use_scale_shift_norm": False, "resblock_updown": False, "channel_mult": [1, 2, 2]},
        {"resblock_updown": False, "num_channels": 64, "attention_downsample_factors": [1, 2], "num_head_channels": 32},
        {"num_head_channels": -1, "num_heads": 4},
        {"num_head_channels": -1, "num_heads": 4, "channel_mult": [1, 2, 3], "attention_downsample_factors": [1, 2]},
        {"num_head_channels": -1, "num_heads": 1, "channel_mult": [1, 2, 3], "attention_downsample_factors": [1, 4]},
        {"attention_downsample_factors": [], "use_scale_shift_norm": False},
    ],
    ids=lambda change: ", ".join(change) or "tiny",
)
def test_converted_network_computes_what_the_reference_computes(change: dict[str, Any]) -> None:
    settings = TINY | change
    reference, noisy, timesteps, wanted = reference_run(settings)
    prior = DiffusionPrior.from_guided_diffusion(reference.weights, settings)
    features = prior(noisy, timesteps)
    assert relative(features.noise, wanted[:, :3]) < 1e-5
    assert relative(features.hspace, reference.middle) < 1e-5


def test_equal_number_of_heads_at_every_width_survives_saving(tmp_path: Path) -> None:
    settings = TINY | {"num_head_channels": -1, "num_heads": 4, "channel_mult": [1, 2], "attention_resolutions": "16,8"}
    settings = settings | {"attention_downsample_factors": [1, 2], "image_size": 16}
    reference, noisy, timesteps, wanted = reference_run(settings)
    DiffusionPrior.from_guided_diffusion(reference.weights, settings).save(tmp_path)
    assert relative(DiffusionPrior.load(tmp_path)(noisy, timesteps).noise, wanted[:, :3]) < 1e-5


def test_wrong_attention_order_would_be_seen() -> None:
    reference, noisy, timesteps, wanted = reference_run(TINY)
    prior = DiffusionPrior.from_guided_diffusion(reference.weights, TINY | {"use_new_attention_order": True})
    assert relative(prior(noisy, timesteps).noise, wanted[:, :3]) > 1e-2


@needs_golden
def test_golden_checkpoint_agrees_with_its_recorded_outputs() -> None:
    prior = DiffusionPrior.from_guided_diffusion(GOLDEN / "adm_tiny.safetensors", GOLDEN / "adm_tiny.json")
    recorded = load_file(GOLDEN / "adm_tiny_io.safetensors")
    for which in ("clean", "restored"):
        noisy = prior.add_noise(recorded[which], recorded["noise"], recorded["timesteps"])
        assert relative(noisy, recorded[f"noisy_{which}"]) < 1e-6
        features = prior(noisy, recorded["timesteps"])
        assert relative(features.noise, recorded[f"prediction_{which}"][:, :3]) < 1e-4
        assert relative(features.hspace, recorded[f"hspace_{which}"]) < 1e-4
        raw = prior.unet(noisy, recorded["timesteps"]).sample
        assert relative(raw, recorded[f"prediction_{which}"]) < 1e-4


def test_published_256_pixel_model_has_its_published_shape() -> None:
    settings = read_settings(
        {
            "image_size": 256,
            "num_channels": 256,
            "num_res_blocks": 2,
            "attention_resolutions": "32,16,8",
            "num_head_channels": 64,
            "use_scale_shift_norm": True,
            "resblock_updown": True,
            "learn_sigma": True,
            "noise_schedule": "linear",
            "diffusion_steps": 1000,
            "class_cond": False,
            "use_fp16": True,
        }
    )
    with torch.device("meta"):
        unet = build_unet(settings)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 552_814_086
    assert len(list(adm_names(settings))) == len(set(adm_names(settings)))
    assert settings.attention_downsample_factors == (8, 16, 32)
    assert tuple(unet.conv_out.weight.shape) == (6, 256, 3, 3)
    assert unet.mid_block.attentions[0].heads == 16


def adm_names(settings: Any) -> Iterator[str]:
    return (name for name, _ in name_pairs(settings))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_both_file_formats_and_a_settings_file_load(tmp_path: Path, suffix: str) -> None:
    reference, noisy, timesteps, wanted = reference_run(TINY)
    checkpoint, config = tmp_path / f"adm{suffix}", tmp_path / "adm.json"
    config.write_text(json.dumps(TINY))
    save = torch.save if suffix == ".pt" else save_file
    save(reference.weights, checkpoint)
    prior = DiffusionPrior.from_guided_diffusion(str(checkpoint), config)
    assert relative(prior(noisy, timesteps).noise, wanted[:, :3]) < 1e-5


def test_half_precision_checkpoints_become_float32() -> None:
    reference, *_ = reference_run(TINY)
    half = {name: value.half() for name, value in reference.weights.items()}
    assert DiffusionPrior.from_guided_diffusion(half, TINY).dtype == torch.float32


def test_flags_as_guided_diffusion_spells_them() -> None:
    flags = {
        "image_size": "64",
        "attention_resolutions": "32,16,8",
        "channel_mult": "",
        "learn_sigma": "True",
        "num_head_channels": 64,
        "num_channels": 192,
        "use_fp16": "False",
        "num_heads": 4,
        "dropout": 0.1,
    }
    settings = read_settings(flags)
    assert settings.channel_mult == (1, 2, 3, 4)
    assert settings.attention_downsample_factors == (2, 4, 8)
    assert settings.learn_sigma and settings.out_channels == 6
    assert read_settings(TINY | {"channel_mult": "1,2"}).channel_mult == (1, 2)
    heads = {"num_head_channels": 64}
    assert read_settings(heads | {"out_channels": 6}).learn_sigma
    assert not read_settings(heads | {"out_channels": 3}).learn_sigma
    elsewhere = read_settings(heads | {"image_size": 64, "attention_resolutions": "16,4", "note": "4 pixels: no level"})
    assert elsewhere.attends == (False, False, True, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_chanels": 32}, "num_channels"),
        ({"channel_mult": "0.5,1"}, "channel_mult"),
        ({"channel_mult": [2, 4]}, "channel_mult"),
        ({"num_channels": 40}, "multiples of 32"),
        ({"num_head_channels": 24}, "cannot be divided"),
        ({"num_head_channels": -1, "num_heads": 5}, "cannot be divided by 5"),
        ({"noise_schedule": "sigmoid"}, "linear, cosine"),
        ({"attention_resolutions": "0"}, "attention_resolutions"),
        ({"attention_resolutions": "16"}, "contradict"),
        ({"out_channels": 3}, "learn_sigma"),
        ({"learn_sigma": "maybe"}, "learn_sigma"),
        ({"conv_resample": False}, "conv_resample"),
        ({"rescale_timesteps": True, "diffusion_steps": 500}, "rescale_timesteps"),
        ({"channel_mult": "", "image_size": 48}, "image_size 48"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidedError, match=message):
        read_settings(TINY | change)


def test_checkpoints_that_do_not_fit_name_the_first_entries() -> None:
    weights = reference_run(TINY)[0].weights
    without = {name: value for name, value in weights.items() if not name.startswith("middle_block.1")}
    with pytest.raises(GuidedError, match=r"lacks middle_block\.1\.norm\.weight.*and 1 more"):
        DiffusionPrior.from_guided_diffusion(without, TINY)
    with pytest.raises(GuidedError, match=r"unexpected ema\.decay"):
        DiffusionPrior.from_guided_diffusion(weights | {"ema.decay": torch.ones(1)}, TINY)
    with pytest.raises(GuidedError, match=r"other shapes for conv_out\.weight"):
        DiffusionPrior.from_guided_diffusion(weights, TINY | {"learn_sigma": False})


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"text"), ("a.safetensors", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GuidedError, match=name):
            DiffusionPrior.from_guided_diffusion(tmp_path / name, TINY)
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "nested.pt")
    with pytest.raises(GuidedError, match="state dict"):
        DiffusionPrior.from_guided_diffusion(tmp_path / "nested.pt", TINY)
    with pytest.raises(GuidedError, match=r"absent\.json"):
        DiffusionPrior.from_guided_diffusion({}, tmp_path / "absent.json")


def test_class_conditional_checkpoint_needs_its_null_class() -> None:
    settings = TINY | {"class_cond": True, "num_classes": 5}
    reference, noisy, timesteps, _ = reference_run(TINY)
    table = torch.randn(5, 128, generator=torch.Generator().manual_seed(3))
    weights = reference.weights | {"label_emb.weight": table}
    with pytest.raises(ValueError, match="null_class"):
        DiffusionPrior.from_guided_diffusion(weights, settings)
    prior = DiffusionPrior.from_guided_diffusion(weights, settings, null_class=4)
    direct = prior.unet(noisy, timesteps, class_labels=torch.full((2,), 4)).sample[:, :3]
    assert torch.equal(prior(noisy, timesteps).noise, direct)
    reference.weights["time_embed.2.bias"] = reference.weights["time_embed.2.bias"] + table[4]
    assert relative(prior(noisy, timesteps).noise, reference(noisy, timesteps)[:, :3]) < 1e-5


def test_linear_schedule_of_fewer_steps_keeps_its_total_noise() -> None:
    weights = reference_run(TINY)[0].weights
    full = DiffusionPrior.from_guided_diffusion(weights, TINY).schedule
    short = DiffusionPrior.from_guided_diffusion(weights, TINY | {"diffusion_steps": 250}).schedule
    assert short.steps == 250
    assert short.alphas_cumprod[-1] == pytest.approx(float(full.alphas_cumprod[-1]), rel=0.2)
    betas = torch.linspace(4e-4, 0.08, 250, dtype=torch.float64)
    torch.testing.assert_close(short.alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-4, atol=0)


def test_network_is_a_stock_model() -> None:
    prior = DiffusionPrior.from_guided_diffusion(reference_run(TINY)[0].weights, TINY)
    assert isinstance(prior.unet, nn.Module) and type(prior.unet).__module__.startswith("diffusers.")
