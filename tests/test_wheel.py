"""The wheel: `models` and `data` as a package for other projects, without the pipeline."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = "restoration_for_recognition"
IMPORT_NAMES = {  # where they differ from the distribution's
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "ultralytics": "ultralytics-opencv-headless",
}

USE = f"""
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

from {PACKAGE}.data.degradations import degrade
from {PACKAGE}.models.diffusion.prior import DiffusionPrior
from {PACKAGE}.models.losses.diffloss import DiffLoss
from {PACKAGE}.models.restorers import build_restorer, load_restorer, save_restorer

image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
foggy = degrade(image, "fog", 3, seed=0)
assert foggy.shape == image.shape and foggy.dtype == np.uint8 and (foggy != image).any()

torch.manual_seed(0)
unet = UNet2DModel(
    block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
DiffusionPrior(unet, DDPMScheduler()).save("prior")
diffloss = DiffLoss(DiffusionPrior.load(Path("prior")))
restorer = build_restorer("nafnet", dict(width=4, encoder_blocks=[1], middle_blocks=1, decoder_blocks=[1])).train()
before = [weight.detach().clone() for weight in restorer.parameters()]
optimizer = torch.optim.SGD(restorer.parameters(), lr=0.1)
clean, degraded = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 for pixels in (image, foggy))
loss = diffloss(restorer(degraded).clamp(0, 1), clean).total
loss.backward()
optimizer.step()
assert loss.isfinite() and any(not torch.equal(*pair) for pair in zip(before, restorer.parameters()))

save_restorer(Path("restorer.safetensors"), restorer)
restored = load_restorer("restorer.safetensors")(degraded)
assert restored.shape == clean.shape and 0 <= restored.min() and restored.max() <= 1

project = {{"models", "data", "pipeline", "mlflow", "dvc", "ultralytics"}}
assert not project & {{name.split(".")[0] for name in sys.modules}}
print(sys.modules["{PACKAGE}"].__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy without a download: hatchling is in the group `dev`."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = copy_for_wheel(folder / "copy")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def unpacked(wheel: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def copy_for_wheel(folder: Path) -> Path:
    """What the project's folder holds, as far as the wheel is made of it, with files that must stay out."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("data", "models", "tools/wheel", "pipeline"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "models" / "__pycache__").mkdir()
    (folder / "models" / "__pycache__" / "settings.cpython-311.pyc").write_bytes(b"")
    return folder


def _metadata(unpacked: Path) -> Message:
    (path,) = unpacked.glob("*.dist-info/METADATA")
    return Parser().parsestr(path.read_text())


def _requirements(unpacked: Path) -> list[Requirement]:
    return [Requirement(line) for line in _metadata(unpacked).get_all("Requires-Dist", [])]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_holds_models_and_data_and_nothing_else(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {PACKAGE, info.name}
    assert {path.name for path in (unpacked / PACKAGE).iterdir()} == {"__init__.py", "py.typed", "data", "models"}
    for name in ("data", "models"):
        ours = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.py")}
        theirs = {path.relative_to(unpacked / PACKAGE / name) for path in (unpacked / PACKAGE / name).rglob("*.py")}
        assert theirs == ours
    assert not list(unpacked.rglob("*.pyc"))
    assert (info / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_metadata_is_complete(unpacked: Path) -> None:
    metadata = _metadata(unpacked)
    assert metadata["Name"] == "restoration-for-recognition" and metadata["Summary"] and metadata["Keywords"]
    assert metadata["License-Expression"] == "AGPL-3.0-or-later" and metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11" and "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["Description-Content-Type"] == "text/markdown" and "DiffLoss" in str(metadata.get_payload())


def test_requirements_are_ranges_that_the_pinned_versions_meet(unpacked: Path) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pins = {_normal(pin.name): str(pin.specifier) for pin in map(Requirement, groups["pipeline"])}
    assert all(specifier.startswith("==") for specifier in pins.values())
    for requirement in _requirements(unpacked):
        assert not any(clause.operator in ("==", "===") for clause in requirement.specifier)
        assert requirement.specifier.contains(version(requirement.name))
        brought_along = requirement.name == "huggingface-hub"  # by diffusers
        assert brought_along or requirement.specifier.contains(pins[_normal(requirement.name)].removeprefix("=="))


def test_every_import_is_relative_or_declared(unpacked: Path) -> None:
    declared = {_normal(requirement.name) for requirement in _requirements(unpacked)}
    undeclared: dict[str, list[str]] = {}
    for path in sorted((unpacked / PACKAGE).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            else:
                continue
            for root in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                if _normal(IMPORT_NAMES.get(root, root)) not in declared:
                    undeclared.setdefault(root, []).append(str(path.relative_to(unpacked)))
    assert not undeclared


def _used(python: str, program: str, folder: Path) -> Path:
    """Run a program and return what it prints. With -I neither its folder nor PYTHONPATH is on the path."""
    done = subprocess.run([python, "-I", "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.split()[-1])


def test_the_unpacked_wheel_trains_restores_and_degrades(unpacked: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(unpacked)!r})\n{USE}"
    # -I: neither the working folder nor PYTHONPATH is on the path.
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[-1]) == unpacked / PACKAGE / "__init__.py"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")
def test_the_installed_wheel_in_a_clean_environment(tmp_path: Path) -> None:
    copy, environment = copy_for_wheel(tmp_path / "copy"), tmp_path / "environment"
    subprocess.run(["uv", "build", "--wheel", "-q", "-o", str(tmp_path)], cwd=copy, check=True)
    (path,) = tmp_path.glob("*.whl")
    (tmp_path / "constraints.txt").write_text(f"torch=={version('torch')}\n")  # the download that uv has already
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(environment)], cwd=tmp_path, check=True)
    python = str(environment / "bin" / "python")
    command = ["uv", "pip", "install", "-q", "--python", python, str(path), "-c", "constraints.txt"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert _used(python, USE, tmp_path).is_relative_to(environment)
    missing = subprocess.run([python, "-I", "-c", "import mlflow"], cwd=tmp_path, capture_output=True, check=False)
    assert missing.returncode != 0
