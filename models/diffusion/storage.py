"""Reading a prior's network and noise schedule from a diffusers folder or hub id."""

from pathlib import Path
from typing import Any

from .latent import EMPTY_PROMPT_FILE, LatentNetwork
from .networks import PixelNetwork, PriorError, PriorNetwork, stored_null_class
from .unet import load_attention_heads

LONGEST_LIST = 5  # names listed in an error
# What defines a schedule. Samplers other than DDPM carry more: how to sample, which no prior needs.
SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def load_network(source: str | Path, null_class: int | None) -> PriorNetwork:
    """The U-Net of a folder or hub id, behind its VAE if it is a latent diffusion model.

    Args:
        source: a `Path` is a folder of this machine; a string may also be a hub id.
        null_class: of a class-conditional U-Net; None: the stored one.

    Raises:
        PriorError: there is no such folder or model, or it cannot be a prior.
        Exception: whatever diffusers raises for a configuration or weights that it cannot read.
    """
    from diffusers import UNet2DModel

    config, subfolder = _read_config(UNet2DModel, source, "unet")
    if config.get("_class_name") == "UNet2DConditionModel":
        return _load_latent_network(source)
    if config.get("_class_name") != "UNet2DModel":
        raise PriorError(f"{source}: expected a UNet2DModel, found {config.get('_class_name')}")
    unet, loading = UNet2DModel.from_pretrained(
        source, subfolder=subfolder, low_cpu_mem_usage=False, output_loading_info=True
    )
    if loading["missing_keys"]:  # diffusers leaves these weights random and only warns
        names = ", ".join(sorted(loading["missing_keys"])[:LONGEST_LIST])
        raise PriorError(f"{source}: the weights lack {names}")
    load_attention_heads(unet, Path(source))
    if null_class is None:
        null_class = stored_null_class(Path(source))
    return PixelNetwork(unet, null_class)


def load_scheduler(source: str | Path) -> Any:
    """A DDPMScheduler with the noise schedule of the sampler in a folder or hub id, whichever sampler it is."""
    from diffusers import DDPMScheduler

    config, _ = _read_config(DDPMScheduler, source, "scheduler")
    return DDPMScheduler(**{key: config[key] for key in SCHEDULE_KEYS if key in config})


def _load_latent_network(source: str | Path) -> LatentNetwork:
    """A Stable-Diffusion-like folder with the embedding of its empty prompt."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file

    path = Path(source) / EMPTY_PROMPT_FILE
    if not path.exists():
        raise PriorError(
            f"{path} is missing: a text-conditional prior needs the embedding of its empty prompt, a tensor 'empty' "
            "(1,tokens,width); docs/diffloss.md shows how to write it"
        )
    return LatentNetwork(
        UNet2DConditionModel.from_pretrained(source, subfolder="unet", low_cpu_mem_usage=False),
        AutoencoderKL.from_pretrained(source, subfolder="vae", low_cpu_mem_usage=False),
        load_file(path)["empty"],
    )


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
