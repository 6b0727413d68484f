"""The tutorials, run from top to bottom on small data: the commands of the page are those of the script."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from clones import clone, environment

from data.images import read_image, write_image
from data.sources.scenes import Scenes
from tests.test_wheel import copy_for_wheel

ROOT = Path(__file__).parents[1]
TUTORIALS, EXAMPLES = ROOT / "docs" / "tutorials", ROOT / "examples"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SMALLER = {"params.photos.yaml": "params.tiny.yaml", "image_size: 640": "image_size: 96"}
COUNTS = {"train": 6, "val": 10, "test": 6}  # a gate needs ten images
SCENES = Scenes(Path(), {"width": 128, "height": 96, **COUNTS}, 0)
COMMIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "all"]


def _blocks(page: str, language: str) -> list[str]:
    return [code for name, code in BLOCK.findall((TUTORIALS / page).read_text()) if name == language]


@pytest.mark.parametrize("script", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_executable_and_named_by_a_tutorial(script: Path) -> None:
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!/usr/bin/env ")
    assert any(f"examples/{script.name}" in page.read_text() for page in TUTORIALS.glob("*.md"))


def test_the_commands_of_the_first_tutorial_are_those_of_its_script() -> None:
    _, *commands = _blocks("detector.md", "bash")
    script = (EXAMPLES / "detector.sh").read_text()
    assert script.endswith("\n" + "\n".join(commands))


def test_the_program_of_the_second_tutorial_is_its_script() -> None:
    (program,) = _blocks("training-loop.md", "python")
    assert (EXAMPLES / "diffloss_training.py").read_text().endswith(program)


def _photos(folder: Path) -> Path:
    """An ultralytics project of drawn streets, and a folder of dark ones."""
    for split, ids in SCENES.split_ids().items():
        for kind in ("images", "labels"):
            (folder / "photos" / kind / split).mkdir(parents=True)
        for image_id in ids:
            sample = SCENES.sample(split, image_id)
            write_image(folder / "photos" / "images" / split / f"{image_id}.png", sample.image)
            rows = ["{:.0f} {:.6f} {:.6f} {:.6f} {:.6f}".format(*box) for box in sample.boxes]
            (folder / "photos" / "labels" / split / f"{image_id}.txt").write_text("\n".join(rows) + "\n")
    names = [f"  {index}: {name}" for index, name in enumerate(SCENES.classes["detection"])]
    lines = ["path: .", *(f"{split}: images/{split}" for split in COUNTS), "names:", *names]
    (folder / "photos" / "data.yaml").write_text("\n".join(lines) + "\n")
    (folder / "new-photos").mkdir()
    for name in ("a", "b"):
        write_image(folder / "new-photos" / f"{name}.png", sample.image // 8)
    return folder


def _write_detector(path: Path, classes: list[str]) -> None:
    """A YOLO network with random weights that is sure of some boxes."""
    from models.tasks.yolo_library import parts

    torch.manual_seed(0)
    network: Any = parts("detect").model("yolo11n.yaml", nc=len(classes), verbose=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(8):  # statistics of noise, without which nothing of the image reaches the head
            network.train()(torch.rand(4, 3, 64, 64))
    for branch in network.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.05)
        branch[-1].bias.data.fill_(-1.0)
    network.names = dict(enumerate(classes))
    torch.save({"model": network, "train_args": {}}, path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of ultralytics
def test_does_restoring_help_my_detector(tmp_path: Path) -> None:
    folder = clone(_photos(tmp_path) / "project", "params.yaml")
    _write_detector(
        folder / "weights" / "mine.pt", Scenes(Path(), {"width": 128, "height": 96, **COUNTS}, 0).classes["detection"]
    )
    script = folder / "examples" / "detector.sh"
    text = script.read_text()
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(COMMIT, cwd=folder, check=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text('#!/bin/sh\n[ "$1" = run ] && shift\nexec "$@"\n')
    (tools / "uv").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    names = {"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost"}
    names |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in names.items()}
    done = subprocess.run(
        [str(script)], env={**environment(folder), **names, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = folder / "artifacts" / "report"
    verdicts = pd.read_csv(report / "verdicts.csv")
    assert {"pixel", "diffloss"} == set(verdicts[verdicts.versus == "degraded"].variant)
    assert (report / "report.html").exists()
    assert (folder / "deployed" / "lowlight-diffloss" / "restorer.onnx").exists()
    gate = folder / "deployed" / "gate-detection-lowlight-diffloss"
    assert (gate / "gate.md").exists()
    restored = {path.name: read_image(path).shape for path in (folder / "restored").glob("*.png")}
    assert restored == {"a.png": (96, 128, 3), "b.png": (96, 128, 3)}


def test_diffloss_in_your_own_training_loop(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    _photos(tmp_path)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=copy_for_wheel(tmp_path / "copy"),
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "prior")  # as published priors are stored
    command = [str(EXAMPLES / "diffloss_training.py"), "photos/images/train", "--prior", "prior"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [*command, "--size", "32", "--steps", "81", "--batch", "4"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pixel = [float(value) for value in re.findall(r"pixel ([\d.]+), DiffLoss [\d.]+", done.stdout)]
    assert len(pixel) == 9 and np.mean(pixel[-4:]) < 0.9 * np.mean(pixel[:2])  # each value is of another batch
    assert set(torch.load(tmp_path / "network.pth")) == {"0.weight", "0.bias", "2.weight", "2.bias"}
