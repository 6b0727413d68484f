"""Stage train_prior: a small diffusion model of the clean training images, whose features DiffLoss compares."""

import json
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from data import images
from data.batches import CropBatches
from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.mixed_precision import mixed_precision
from pipeline.running.artifacts import write_not_needed
from pipeline.running.atomic_outputs import read_json, replacing, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.params import Params, load_params
from pipeline.settings.training import TrainPrior
from pipeline.tracking import streaming
from pipeline.tracking.configurations import training_configuration
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.loop import Loop, no_stream
from pipeline.training.pretrained_priors import load_prior
from pipeline.training.prior_quality import denoising_errors

SAMPLING_STEPS = 50


def train_prior(clean: Dataset, settings: TrainPrior, loop: Loop, rank: TrainingRank | None = None) -> DiffusionPrior:
    """Train by predicting the noise (Ho et al., "Denoising diffusion probabilistic models", 2020, algorithm 1).

    It sees the split `train` only. Each rank gets its slice of every batch. The weights of the result are running means
    over the steps (EMA). Weights are float32; the U-Net computes in the precision of the settings.
    """
    from diffusers.training_utils import EMAModel

    torch.manual_seed(loop.seed)
    rank = rank or TrainingRank(loop.device)
    unet = build_unet(settings.network.model_dump()).to(loop.device)
    scheduler = build_scheduler(settings.schedule.model_dump())
    network = rank.wrap(unet)
    batches = CropBatches(
        clean.split("train"), settings.crop, settings.network.size, settings.batch, loop.seed, (rank.index, rank.count)
    )
    optimizer = torch.optim.AdamW(unet.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
    rates = LambdaLR(optimizer, partial(_rate, settings))
    average = EMAModel(unet.parameters(), decay=settings.ema, use_ema_warmup=True, power=0.75)
    state = {"unet": unet, "optimizer": optimizer, "rates": rates, "average": average}
    for step in loop.steps(settings.steps, state):
        seed = seed_for(loop.seed, "noise", step)
        with mixed_precision(settings.precision, loop.device):
            loss = _noise_loss(network, scheduler, batches(step).to(loop.device), seed, rank, settings.min_snr)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rates.step()
        average.step(unet.parameters())
        loop.log(step + 1, **rank.mean_values({"loss": loss.item()}))
    average.copy_to(unet.parameters())
    return DiffusionPrior(unet, scheduler)


def _rate(settings: TrainPrior, step: int) -> float:
    """The learning rate of a step as a share of the highest: it rises in the warm-up, and may fall along a cosine."""
    if step < settings.warm_up:
        return (step + 1) / (settings.warm_up + 1)
    if settings.decay == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - settings.warm_up) / (settings.steps - settings.warm_up))) / 2


def draw_samples(prior: DiffusionPrior, count: int, seed: int, device: torch.device) -> torch.Tensor:
    """Images drawn from the prior (DDIM, 50 steps), (count, 3, H, W) in [0, 1]."""
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline: Any = DDIMPipeline(prior.unet, DDIMScheduler.from_config(prior.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = pipeline(batch_size=count, generator=generator, num_inference_steps=SAMPLING_STEPS, output_type="np")
    return torch.from_numpy(drawn.images).permute(0, 3, 1, 2)


def _noise_loss(
    unet: torch.nn.Module,
    scheduler: Any,
    clean: torch.Tensor,
    seed: int,
    rank: TrainingRank,
    min_snr: float | None = None,
) -> torch.Tensor:
    """The mean squared error of the predicted noise, for clean images (B, 3, H, W) in [0, 1].

    With `min_snr`, an error counts min(SNR, min_snr) / SNR, with the signal-to-noise ratio at its timestep: timesteps
    with little noise, which are many and easy, count less. Source: Hang et al., "Efficient diffusion training via
    min-SNR weighting strategy", ICCV 2023.
    """
    generator = torch.Generator().manual_seed(seed)
    count: int = scheduler.config.num_train_timesteps
    noise = rank.slice_of(lambda size: torch.randn((size, *clean.shape[1:]), generator=generator), len(clean))
    timesteps = rank.slice_of(lambda size: torch.randint(count, (size,), generator=generator), len(clean))
    noise, timesteps = noise.to(clean.device), timesteps.to(clean.device)
    noisy = scheduler.add_noise(clean * 2 - 1, noise, timesteps)
    predicted = unet(noisy, timesteps).sample.float()
    if min_snr is None:
        return F.mse_loss(predicted, noise)
    signal = scheduler.alphas_cumprod.to(noise.device)[timesteps]  # (B,)
    ratio = signal / (1 - signal)
    return ((predicted - noise).square().mean((1, 2, 3)) * ratio.clamp(max=min_snr) / ratio).mean()


def _adopt(settings: TrainPrior, clean: Path, seed: int, out: Path, costs: Path) -> None:
    """Save a pretrained prior as this stage's output, with its denoising errors on these data."""
    prior = load_prior(settings)
    with replacing_folder(out) as folder:
        prior.save(folder)
        _write_quality(prior, clean, settings, seed, choose_device(), folder)
    with replacing(costs) as scratch:
        scratch.write_text(json.dumps({"parameters": sum(weight.numel() for weight in prior.parameters())}) + "\n")


def _write_quality(
    prior: DiffusionPrior, clean: Path, settings: TrainPrior, seed: int, device: torch.device, folder: Path
) -> None:
    """Write the denoising errors of a prior on held-out images, and print what they come to."""
    if not settings.held_out:
        return
    sides = settings.crop, settings.network.size
    errors = denoising_errors(prior, Dataset.open(clean), settings.held_out, *sides, seed_for(seed, "held out"), device)
    errors.save(folder)
    print(
        f"train_prior: denoising error {errors.summary['error']:.3g} on {errors.images} images of {errors.split}, "
        f"{errors.summary['relative_error']:.2f} of that of the pixels' mean and variance alone"
    )


def _train(params: Params, clean: Dataset, out: Path, costs: Path, rank: TrainingRank) -> None:
    """Train, or resume a killed training. The first rank streams the curve to MLflow and writes the outputs."""
    settings, device = params.train_prior, rank.device
    work = checkpoint_folder(
        ["pipeline.train_prior"], params.seed, settings.model_dump(), fingerprint(clean.folder / "train")
    )
    stage, name = "train_prior", "prior"
    configuration = training_configuration(params, stage, name, settings.model_dump(mode="json"))
    live = streaming.live(
        clean.info.name, name, {"stage": stage}, configuration, work.name, **params.tracking.model_dump()
    )
    with live if rank.is_first else nullcontext(no_stream) as stream:
        loop = Loop(stage, work, seed_for(params.seed, name), device, stream, rank)
        prior = train_prior(clean, settings, loop, rank)
    if not rank.is_first:
        return
    with replacing_folder(out) as folder:
        prior.save(folder)
        loop.write_curve(folder / "curve.csv")
        samples = draw_samples(prior, settings.samples, params.seed, device)
        images.write_image(folder / "samples.png", images.to_uint8(torch.cat(list(samples), dim=2)))
        _write_quality(prior, clean.folder, settings, params.seed, device, folder)
    loop.write_costs(costs, prior)
    loop.finish()


def main() -> None:
    """Command line."""
    options = parse_arguments("needs", "clean", "out", "costs")
    params, out, costs = load_params(), Path(options.out), Path(options.costs)
    if not read_json(Path(options.needs), "prior")["prior"]:
        write_not_needed(out, costs, "No objective in params.yaml needs a prior.\n")
    elif params.train_prior.pretrained:
        _adopt(params.train_prior, Path(options.clean), params.seed, out, costs)
    elif not launch_ranks("pipeline.train_prior", params.processes):
        with training_rank(train_prior=params.train_prior.batch) as rank:
            _train(params, Dataset.open(Path(options.clean)), out, costs, rank)


if __name__ == "__main__":
    run_stage(main)
