"""Stage train_prior: a small diffusion model of the clean training images, whose features DiffLoss compares."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from data import images
from data.batches import CropBatches
from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from pipeline.running.artifacts import write_not_needed
from pipeline.running.atomic_outputs import read_json, replacing, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import seed_for
from pipeline.settings.params import Params, TrainPrior, load_params
from pipeline.tracking import streaming
from pipeline.tracking.configurations import training_configuration
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.loop import Loop, no_stream

SAMPLING_STEPS = 50


def train_prior(clean: Dataset, settings: TrainPrior, loop: Loop, rank: TrainingRank | None = None) -> DiffusionPrior:
    """Train by predicting the noise (Ho et al., "Denoising diffusion probabilistic models", 2020, algorithm 1).

    It sees the split `train` only. Each rank gets its slice of every batch. The weights of the result are running means
    over the steps (EMA). Weights are float32; at precision bf16 the U-Net computes in bfloat16.
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
    optimizer = torch.optim.AdamW(unet.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    average = EMAModel(unet.parameters(), decay=settings.ema, use_ema_warmup=True, power=0.75)
    for step in loop.steps(settings.steps, {"unet": unet, "optimizer": optimizer, "average": average}):
        seed = seed_for(loop.seed, "noise", step)
        with torch.autocast(loop.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = _noise_loss(network, scheduler, batches(step).to(loop.device), seed, rank)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.step(unet.parameters())
        loop.log(step + 1, **rank.mean_values({"loss": loss.item()}))
    average.copy_to(unet.parameters())
    return DiffusionPrior(unet, scheduler)


def draw_samples(prior: DiffusionPrior, count: int, seed: int, device: torch.device) -> torch.Tensor:
    """Images drawn from the prior (DDIM, 50 steps), (count, 3, H, W) in [0, 1]."""
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline: Any = DDIMPipeline(prior.unet, DDIMScheduler.from_config(prior.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = pipeline(batch_size=count, generator=generator, num_inference_steps=SAMPLING_STEPS, output_type="np")
    return torch.from_numpy(drawn.images).permute(0, 3, 1, 2)


def _noise_loss(
    unet: torch.nn.Module, scheduler: Any, clean: torch.Tensor, seed: int, rank: TrainingRank
) -> torch.Tensor:
    """The mean squared error of the predicted noise, for clean images (B, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    count: int = scheduler.config.num_train_timesteps
    noise = rank.slice_of(lambda size: torch.randn((size, *clean.shape[1:]), generator=generator), len(clean))
    timesteps = rank.slice_of(lambda size: torch.randint(count, (size,), generator=generator), len(clean))
    noise, timesteps = noise.to(clean.device), timesteps.to(clean.device)
    noisy = scheduler.add_noise(clean * 2 - 1, noise, timesteps)
    return F.mse_loss(unet(noisy, timesteps).sample.float(), noise)


def _adopt(pretrained: str, adm_settings: str | None, out: Path, costs: Path) -> None:
    """Save a pretrained prior as this stage's output."""
    if adm_settings is None:
        prior = DiffusionPrior.load(pretrained)
    else:
        prior = DiffusionPrior.from_guided_diffusion(pretrained, adm_settings)
    with replacing_folder(out) as folder:
        prior.save(folder)
    with replacing(costs) as scratch:
        scratch.write_text(json.dumps({"parameters": sum(weight.numel() for weight in prior.parameters())}) + "\n")


def _train(params: Params, clean: Dataset, out: Path, costs: Path, rank: TrainingRank) -> None:
    """Train, or resume a killed training. The first rank streams the curve to MLflow and writes the outputs."""
    settings, device = params.train_prior, rank.device
    work = checkpoint_folder(
        ["pipeline.train_prior"], params.seed, settings.model_dump(), fingerprint(clean.folder / "train")
    )
    system = params.tracking.system_metrics
    stage, name = "train_prior", "prior"
    configuration = training_configuration(params, stage, name, settings.model_dump(mode="json"))
    live = streaming.live(clean.info.name, name, {"stage": stage}, configuration, work.name, system)
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
    loop.write_costs(costs, prior)
    loop.finish()


def main() -> None:
    """Command line."""
    options = parse_arguments("needs", "clean", "out", "costs")
    params, out, costs = load_params(), Path(options.out), Path(options.costs)
    if not read_json(Path(options.needs), "prior")["prior"]:
        write_not_needed(out, costs, "No objective in params.yaml needs a prior.\n")
    elif params.train_prior.pretrained:
        _adopt(params.train_prior.pretrained, params.train_prior.adm_settings, out, costs)
    elif not launch_ranks("pipeline.train_prior", params.processes):
        with training_rank(train_prior=params.train_prior.batch) as rank:
            _train(params, Dataset.open(Path(options.clean)), out, costs, rank)


if __name__ == "__main__":
    run_stage(main)
