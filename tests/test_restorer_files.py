"""Files that somebody else wrote: read as weights, or refused in one line that names the file."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.restorers import FORMAT, HEADER, RestorerError, build_restorer, load_restorer, save_restorer

NAFNET = {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}


def test_a_checkpoint_that_spandrel_reads(tmp_path: Path) -> None:
    restorer = build_restorer("nafnet", NAFNET).eval()
    images = torch.rand(1, 3, 32, 20)  # other sizes it pads with zeros, where ours reflects
    state = restorer.network.state_dict()
    torch.save({"params": state}, tmp_path / "foreign.pth")
    torch.save(state, tmp_path / "foreign.ckpt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "foreign.safetensors")
    for file in ("foreign.pth", "foreign.ckpt", "foreign.safetensors"):
        assert torch.allclose(load_restorer(tmp_path / file)(images), restorer(images), atol=1e-5)


def _architectures() -> dict[str, Any]:
    from spandrel.architectures.DRUNet import DRUNet
    from spandrel.architectures.SCUNet import SCUNet
    from spandrel.architectures.Uformer import Uformer

    return {
        "DRUNet": lambda: DRUNet(in_nc=4, out_nc=3, nc=[4, 4, 4, 4], nb=2),
        "SCUNet": lambda: SCUNet(in_nc=3, config=[1, 1, 1, 1, 1, 1, 1], dim=64),
        "Uformer": lambda: Uformer(img_size=128, embed_dim=8, depths=[1] * 9, modulator=True),
    }


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("name", ["DRUNet", "SCUNet", "Uformer"])
def test_architectures_of_others_are_saved_as_ours_and_found_again(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(_architectures()[name]().state_dict(), tmp_path / "theirs.pth")
    theirs = load_restorer(tmp_path / "theirs.pth")
    assert theirs.settings == {"architecture": name}
    save_restorer(tmp_path / "ours.safetensors", theirs)
    ours = load_restorer(tmp_path / "ours.safetensors")
    images = torch.rand(2, 3, 40, 50)
    assert torch.equal(ours(images), theirs(images))
    assert ours(images).shape == images.shape


class _Malicious:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "bin"])
@pytest.mark.parametrize("plain", [False, True], ids=["torch", "pickle"])
def test_a_pickle_executes_nothing(tmp_path: Path, suffix: str, plain: bool) -> None:
    path, mark = tmp_path / f"malicious.{suffix}", tmp_path / "executed"
    content = {"params": {"x": torch.zeros(1)}, "more": _Malicious(mark)}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(RestorerError, match=rf"malicious\.{suffix}: not readable as weights alone"):
        load_restorer(path)
    assert not mark.exists()
    # The same file does harm where it is simply unpickled: the test sees what it says it sees.
    with path.open("rb") as file:
        pickle.load(file) if plain else torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(tmp_path / "program.pt")
    with pytest.raises(RestorerError, match=r"program\.pt: not readable as weights alone"):
        load_restorer(tmp_path / "program.pt")


def _upscaler(path: Path) -> None:
    from spandrel.architectures.Compact import Compact

    torch.save(Compact(num_feat=8, num_conv=1, upscale=2).state_dict(), path)


def _grey(path: Path) -> None:
    from spandrel.architectures.DRUNet import DRUNet

    torch.save(DRUNet(in_nc=2, out_nc=1, nc=[4, 4, 4, 4], nb=2).state_dict(), path)


def _header_without_weights(path: Path) -> None:
    about = {"format": FORMAT, "name": "nafnet", "settings": {"width": 8}}
    save_file({"x": torch.zeros(1)}, path, metadata={HEADER: json.dumps(about)})


def _half(path: Path) -> None:
    save_restorer(path, build_restorer("nafnet", NAFNET))
    path.write_bytes(path.read_bytes()[:-100])


FAULTS: dict[str, tuple[Any, str]] = {
    "broken.safetensors": (lambda path: path.write_bytes(b"nonsense"), "not a readable safetensors file"),
    "half.safetensors": (_half, "not a readable safetensors file"),
    "strange.safetensors": (lambda path: save_file({"x": torch.zeros(1)}, path), "spandrel cannot read"),
    "hollow.safetensors": (_header_without_weights, "weights and settings do not fit"),
    "broken.pth": (lambda path: path.write_bytes(b"nonsense"), "not readable as weights alone"),
    "empty.pth": (lambda path: path.write_bytes(b""), "empty.pth: is empty"),
    "list.pth": (lambda path: torch.save([torch.zeros(1)], path), "expected weights by name, found list"),
    "words.pth": (lambda path: torch.save({"a": "b"}, path), "found none"),
    "photo.png": (lambda path: path.write_bytes(b"x"), r"expected a \.safetensors, \.pth"),
    "upscaler.pth": (_upscaler, r"Compact is not a restorer from RGB to RGB of the same size \(scale 2"),
    "grey.pth": (_grey, r"DRUNet is not a restorer from RGB to RGB"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    write, message = FAULTS[name]
    write(tmp_path / name)
    with pytest.raises(RestorerError, match=message) as caught:
        load_restorer(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RestorerError, match=r"nowhere\.safetensors: no such restorer"):
        load_restorer(tmp_path / "nowhere.safetensors")
