"""A latent diffusion model as a prior: VAE, text-conditional U-Net, empty prompt (as Stable Diffusion 1 and 2)."""

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .prior import MIDDLE, NOISE, DiffusionPrior, PriorError

EMPTY_PROMPT_FILE = "empty_prompt.safetensors"


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass that need not go on."""


class LatentPrior(DiffusionPrior):
    """The prior's features in the latent space of a VAE; gradients pass through the VAE's encoder as well.

    An image (N,3,H,W) becomes the mean of its latent distribution, scaled as the model was trained. `noisy`, `noise`
    and the timesteps of the inherited methods mean latents (N,C,h,w).

    Args:
        unet: a diffusers UNet2DConditionModel that needs no other condition than a prompt.
        scheduler: a diffusers scheduler with `alphas_cumprod`.
        vae: a diffusers AutoencoderKL.
        empty_prompt: (1,tokens,width) embedding of the empty prompt.

    Raises:
        PriorError: models that do not fit each other or need further conditions.
    """

    empty_prompt: Tensor

    def __init__(self, unet: nn.Module, scheduler: Any, vae: nn.Module, empty_prompt: Tensor) -> None:
        config: Any = getattr(unet, "config", {})
        width = config.get("cross_attention_dim")
        if empty_prompt.ndim != 3 or empty_prompt.shape[0] != 1 or empty_prompt.shape[2] != width:
            raise PriorError(f"empty_prompt: expected (1,tokens,{width}), got {tuple(empty_prompt.shape)}")
        super().__init__(unet, scheduler)
        self.vae = vae
        self.register_buffer("empty_prompt", empty_prompt.detach().clone())
        self.requires_grad_(False)
        self.train(False)

    def encode(self, image: Tensor) -> Tensor:
        """Latents (N,C,h,w) of images (N,3,H,W) in [-1,1]; differentiable."""
        vae: Any = self.vae
        self._freeze()
        latents = vae.encode(image.to(self.dtype)).latent_dist.mean
        return (latents - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor

    def maps(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps of noisy latents; see DiffusionPrior.maps. The pass stops at the last one wanted."""
        self.check_layers(layers)
        noisy = self._prepare(noisy, timesteps)
        maps: dict[str, Tensor] = {}
        last = max(layers, key=self.layers.index)

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                maps[name] = output[0] if isinstance(output, tuple) else output
                if name == last:
                    raise _Reached

            return hook

        with ExitStack() as hooks:
            for name in layers:
                if name != NOISE:
                    hooks.enter_context(self._block(name).register_forward_hook(keep(name)))
            with suppress(_Reached):
                prediction = self._predict(noisy, timesteps)[:, : noisy.shape[1]]
                maps[NOISE] = self.schedule.to_noise(prediction, noisy, timesteps)
        return {name: maps[name] for name in layers}

    def save(self, folder: str | Path) -> None:
        """Write unet/, scheduler/, vae/ and the empty prompt, as `DiffusionPrior.load` reads them."""
        from safetensors.torch import save_file

        super().save(folder)
        self.vae.save_pretrained(Path(folder) / "vae")  # type: ignore[operator]
        save_file({"empty": self.empty_prompt.contiguous()}, Path(folder) / EMPTY_PROMPT_FILE)

    def compile_passes(self) -> None:
        """Refused: the hooks that read the h-space do not survive compilation."""
        raise PriorError("a latent prior cannot be compiled; set compile to false")

    @property
    def size_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this: the VAE halves them first."""
        return self._unet_multiple * 2 ** (len(self.vae.config.block_out_channels) - 1)  # type: ignore[union-attr, arg-type]

    def _block(self, layer: str) -> nn.Module:
        unet: Any = self.unet
        if layer == MIDDLE:
            return unet.mid_block
        down = layer.startswith("down")
        blocks = unet.down_blocks if down else unet.up_blocks
        return blocks[int(layer.removeprefix("down" if down else "up"))]

    def _predict(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        prompt = self.empty_prompt.to(noisy.dtype).expand(len(noisy), -1, -1)
        unet: Any = self.unet
        return unet(noisy, timesteps.to(noisy.device), encoder_hidden_states=prompt).sample

    @staticmethod
    def _check_unet(unet: nn.Module, null_class: int | None) -> None:
        config: Any = getattr(unet, "config", None)
        if type(unet).__name__ != "UNet2DConditionModel" or config is None:
            raise PriorError(f"expected a diffusers UNet2DConditionModel, got {type(unet).__name__}")
        if config.addition_embed_type or config.class_embed_type or config.num_class_embeds:
            raise PriorError("this U-Net needs conditions beyond a prompt (such as SDXL's sizes)")
        if unet.mid_block is None:
            raise PriorError("this U-Net cannot be a prior: it has no middle block, hence no h-space")
