"""Weights in the files that people have: wrapped, prefixed, or not weights at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.state_dicts import WeightsError, match_names, read_state_dict

WEIGHTS = {"conv.weight": torch.arange(4.0), "conv.bias": torch.zeros(1)}
OTHERS = {"conv.weight": torch.zeros(4), "conv.bias": torch.ones(1)}


def _prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in WEIGHTS.items()}


WRAPPED: dict[str, Any] = {
    "plain": WEIGHTS,
    "data parallel": _prefixed("module."),
    "compiled": _prefixed("_orig_mod."),
    "both": _prefixed("module._orig_mod."),
    "state_dict": {"state_dict": _prefixed("module."), "epoch": 3, "optimizer": {"state": {0: {"step": 1}}}},
    "model": {"model": WEIGHTS, "args": {"lr": 0.1}},
    "averaged beside trained": {"params": OTHERS, "params_ema": WEIGHTS},
    "averaged in a trainer's file": {"state_dict": OTHERS, "state_dict_ema": WEIGHTS, "epoch": 1},
    "nested twice": {"model": {"state_dict": WEIGHTS}},
    "under an unknown key": {"generator": WEIGHTS, "epoch": 3},
    "with numbers beside": {**WEIGHTS, "epoch": 3},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_trainers_put_around_weights_is_removed(tmp_path: Path, name: str) -> None:
    torch.save(WRAPPED[name], tmp_path / "w.pth")
    state = read_state_dict(tmp_path / "w.pth")
    assert state.keys() == WEIGHTS.keys() and all(torch.equal(state[key], WEIGHTS[key]) for key in state)


def test_prefixes_in_safetensors(tmp_path: Path) -> None:
    save_file(_prefixed("_orig_mod."), tmp_path / "w.safetensors")
    assert read_state_dict(tmp_path / "w.safetensors").keys() == WEIGHTS.keys()


@pytest.mark.parametrize("prefix", ["", "model.", "net.backbone."])
def test_names_are_matched_behind_any_prefix(prefix: str) -> None:
    state = {**_prefixed(prefix), "loss.weight": torch.zeros(1)}
    matched = match_names(state, WEIGHTS)
    assert matched.keys() == WEIGHTS.keys() and torch.equal(matched["conv.weight"], WEIGHTS["conv.weight"])
    assert match_names({"other": torch.zeros(1)}, WEIGHTS) == {}


def _torch(content: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save(content, path)


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "none.pth": (lambda path: None, "cannot be read (No such file or directory). Correct the path"),
    "empty.pth": (lambda path: path.write_bytes(b""), "is empty. Download it again"),
    "pointer.pth": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "is a pointer of Git LFS, not the file itself. Run `git lfs pull` in its repository",
    ),
    "page.safetensors": (lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page, not the file itself"),
    "export.onnx": (lambda path: path.write_bytes(b"\x08\x07"), "Give the one that was exported to ONNX"),
    "words.txt": (lambda path: path.write_text("x"), "expected a .safetensors, .pth, .pt, .ckpt, .bin file"),
    "module.pth": (_torch(torch.nn.Conv2d(1, 1, 1)), "not readable as weights alone; nothing in it was run"),
    "list.pth": (_torch([torch.zeros(1)]), "expected weights by name, found list"),
    "none_inside.pth": (_torch({"epoch": 3}), "expected weights by name, found none"),
    "pair.pth": (
        _torch({"generator": WEIGHTS, "discriminator": WEIGHTS}),
        "holds several networks: generator, discriminator. Save the one you need",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_file_without_weights_is_one_line_with_the_way_out(tmp_path: Path, name: str) -> None:
    write, message = MISTAKES[name]
    write(tmp_path / name)
    with pytest.raises(WeightsError) as caught:
        read_state_dict(tmp_path / name)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / name}: ") and message in text and "\n" not in text
