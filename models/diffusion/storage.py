"""Reading priors from diffusers folders and hub ids."""

import json
from pathlib import Path
from typing import Any

from .prior import NULL_CLASS_FILE, DiffusionPrior, PriorError
from .schedule import ScheduleError
from .unet import load_attention_heads

SHOWN = 5  # names listed in an error
LONGEST_REASON = 300  # characters of another library's message

# What defines a schedule. Samplers other than DDPM carry more, which says how to sample, not how noise was added.
SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def load_prior(source: str | Path, *, null_class: int | None = None) -> DiffusionPrior:
    """Load a U-Net and its schedule from a folder or hub id; see `DiffusionPrior.load`."""
    try:
        return _load(source, null_class)
    except (PriorError, ScheduleError):
        raise
    except Exception as error:  # what diffusers raises for configurations and weights of any content
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise PriorError(f"{source}: not a readable prior ({reason})") from error


def _load(source: str | Path, null_class: int | None) -> DiffusionPrior:
    from diffusers import UNet2DModel

    config, subfolder = _read_config(UNet2DModel, source, "unet")
    if config.get("_class_name") == "UNet2DConditionModel":
        return _load_latent(source)
    if config.get("_class_name") != "UNet2DModel":
        raise PriorError(f"{source}: expected a UNet2DModel, found {config.get('_class_name')}")
    unet, found = UNet2DModel.from_pretrained(
        source, subfolder=subfolder, low_cpu_mem_usage=False, output_loading_info=True
    )
    if found["missing_keys"]:  # which diffusers leaves random, with no more than a warning
        raise PriorError(f"{source}: the weights lack {', '.join(sorted(found['missing_keys'])[:SHOWN])}")
    load_attention_heads(unet, Path(source))
    if null_class is None:
        null_class = _stored_null_class(Path(source))
    return DiffusionPrior(unet, load_scheduler(source), null_class=null_class)


def _load_latent(source: str | Path) -> DiffusionPrior:
    """A Stable-Diffusion-like folder with its empty prompt's embedding beside it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file

    from .latent import EMPTY_PROMPT_FILE, LatentPrior

    path = Path(source) / EMPTY_PROMPT_FILE
    if not path.exists():
        raise PriorError(
            f"{path} is missing: a text-conditional prior needs the embedding of its empty prompt, a tensor 'empty' "
            "(1,tokens,width); docs/diffloss.md shows how to write it"
        )
    return LatentPrior(
        UNet2DConditionModel.from_pretrained(source, subfolder="unet", low_cpu_mem_usage=False),
        load_scheduler(source),
        AutoencoderKL.from_pretrained(source, subfolder="vae", low_cpu_mem_usage=False),
        load_file(path)["empty"],
    )


def load_scheduler(source: str | Path) -> Any:
    """The DDPM scheduler with the noise schedule of whatever sampler the folder holds."""
    from diffusers import DDPMScheduler

    config, _ = _read_config(DDPMScheduler, source, "scheduler")
    return DDPMScheduler(**{key: config[key] for key in SCHEDULE_KEYS if key in config})


def _read_config(kind: Any, source: str | Path, part: str) -> tuple[dict[str, Any], str | None]:
    """The configuration of a part and the sub-folder it lies in (older hub models have none)."""
    for subfolder in (part, None):
        try:
            config = kind.load_config(source, subfolder=subfolder, local_files_only=isinstance(source, Path))
        except OSError as error:
            failure = error
        else:
            return dict(config), subfolder
    raise PriorError(
        f"{source}: no {part} found; expected a folder written by DiffusionPrior.save or a diffusers pipeline "
        f"(sub-folders unet and scheduler), or a hub id that can be reached ({type(failure).__name__})"
    ) from failure


def _stored_null_class(folder: Path) -> int | None:
    path = folder / NULL_CLASS_FILE
    return int(json.loads(path.read_text())["null_class"]) if path.exists() else None
