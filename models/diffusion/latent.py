"""A latent diffusion model inside a prior: VAE, text-conditional U-Net, empty prompt (Stable Diffusion 1 and 2)."""

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .networks import MIDDLE, NOISE, PriorError, PriorNetwork

EMPTY_PROMPT_FILE = "empty_prompt.safetensors"


class _LastLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass after the last layer that is asked for."""


class LatentNetwork(PriorNetwork):
    """A UNet2DConditionModel behind a VAE; gradients pass through the VAE's encoder as well.

    An image (N,3,H,W) becomes the mean of its latent distribution (N,C,h,w), scaled as the model was trained.

    Args:
        unet: a diffusers UNet2DConditionModel whose only condition is a prompt.
        vae: a diffusers AutoencoderKL.
        empty_prompt: (1,tokens,width) embedding of the empty prompt.

    Raises:
        PriorError: the models do not fit each other or need further conditions.
    """

    empty_prompt: Tensor

    def __init__(self, unet: nn.Module, vae: nn.Module, empty_prompt: Tensor) -> None:
        super().__init__()
        _check_unet(unet, empty_prompt)
        self.unet = unet
        self.vae: Any = vae
        self.register_buffer("empty_prompt", empty_prompt.detach().clone())

    def forward(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """See `PriorNetwork.forward`: hooks on the blocks of the U-Net's own forward pass."""
        maps: dict[str, Tensor] = {}
        last = max(layers, key=self.layers.index)

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                maps[name] = output[0] if isinstance(output, tuple) else output  # (N,c,h,w)
                if name == last:
                    raise _LastLayerReached

            return hook

        prompt = self.empty_prompt.to(noisy.dtype).expand(len(noisy), -1, -1)  # (N,tokens,width)
        with ExitStack() as hooks:
            for name in layers:
                if name != NOISE:
                    hooks.enter_context(self._block(name).register_forward_hook(keep(name)))
            with suppress(_LastLayerReached):
                output = self.unet(noisy, timesteps.to(noisy.device), encoder_hidden_states=prompt)
                maps[NOISE] = output.sample  # (N,C,h,w)
        return maps

    def encode(self, image: Tensor) -> Tensor:
        """Latents (N,C,h,w) of images (N,3,H,W) in [-1,1]; differentiable."""
        latents = self.vae.encode(image.to(self.dtype)).latent_dist.mean
        return (latents - (self.vae.config.get("shift_factor") or 0.0)) * self.vae.config.scaling_factor

    def save(self, folder: Path) -> None:
        """Write unet/, vae/ and the empty prompt."""
        from safetensors.torch import save_file

        super().save(folder)
        self.vae.save_pretrained(folder / "vae")
        save_file({"empty": self.empty_prompt.contiguous()}, folder / EMPTY_PROMPT_FILE)

    def compile_passes(self) -> None:
        """Refused: the hooks that read the h-space do not survive compilation."""
        raise PriorError("a latent prior cannot be compiled; set compile to false")

    @property
    def image_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this: the VAE halves them first."""
        return int(self.input_multiple * 2 ** (len(self.vae.config.block_out_channels) - 1))

    def _block(self, layer: str) -> nn.Module:
        if layer == MIDDLE:
            block: nn.Module = self.unet.mid_block
        elif layer.startswith("down"):
            block = self.unet.down_blocks[int(layer.removeprefix("down"))]
        else:
            block = self.unet.up_blocks[int(layer.removeprefix("up"))]
        return block


def _check_unet(unet: nn.Module, empty_prompt: Tensor) -> None:
    config: Any = getattr(unet, "config", None)
    if type(unet).__name__ != "UNet2DConditionModel" or config is None:
        raise PriorError(f"expected a diffusers UNet2DConditionModel, got {type(unet).__name__}")
    width = config.get("cross_attention_dim")
    if empty_prompt.ndim != 3 or empty_prompt.shape[0] != 1 or empty_prompt.shape[2] != width:
        raise PriorError(f"empty_prompt: expected (1,tokens,{width}), got {tuple(empty_prompt.shape)}")
    if config.addition_embed_type or config.class_embed_type or config.num_class_embeds:
        raise PriorError("this U-Net needs conditions beyond a prompt (such as SDXL's sizes)")
    if unet.mid_block is None:
        raise PriorError("this U-Net cannot be a prior: it has no middle block, hence no h-space")
