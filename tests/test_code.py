"""The stage `code`: what each change in the code re-runs, compared with expectations written by hand."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from clones import clone
from dvc.repo import Repo

from pipeline.code import code_digests
from pipeline.running import digests as running_digests
from pipeline.running.digests import PACKAGES, code_digest, imported_files, stage_digest
from pipeline.running.entry import run_stage
from pipeline.settings.params import load_params
from pipeline.settings.plugins import PLUGIN_TABLES, PROJECT, plugin_modules

CODE = "artifacts/code"
ARMS = "degraded-retrained, pixel-retrained, clean-restored-diffloss"
Graph = dict[str, tuple[set[str], set[str]]]  # stage -> dependencies and outputs

# What follows a change, as patterns of stage names.
SCORES = "quality@* evaluate@* arm_images@* arm@* report publish"
SPECIALISTS = f"train_restorer@* restore@* {SCORES}"
RESTORERS = f"train_mixture@* {SPECIALISTS}"
DEGRADED = f"degrade@* objective@* {SPECIALISTS}"
PRIOR = f"train_prior objective@* train_mixture@diffloss train_restorer@*-diffloss restore@*-diffloss {SCORES}"
TRAININGS = f"train_prior train_task@* objective@* evaluate_clean@* {RESTORERS}"
DATA = f"prepare degrade@* {TRAININGS}"
ALL = f"plan {DATA}"
DIFFLOSS = f"objective@diffloss train_mixture@diffloss train_restorer@*-diffloss restore@*-diffloss {SCORES}"
FOG, LOWLIGHT = (
    f"degrade@{name} objective@* train_restorer@{name}-* restore@{name}-* quality@{name} evaluate@*-{name} "
    f"arm_images@{name}-* arm@*-{name}-* report publish"
    for name in ("fog", "lowlight")
)
NETWORK = "train_task@{0} objective@* evaluate_clean@{0} evaluate@{0}-* arm@{0}-* report publish"
DETECTION, SEGMENTATION = (
    f"evaluate_clean@{task} evaluate@{task}-* arm@{task}-* report publish" for task in ("detection", "segmentation")
)

# A changed file, and the stages that then run after `code`. The parameters are the tiny ones with three arms:
# lowlight and fog, pixel and diffloss, nafnet, detection and segmentation, drawn scenes.
EXPECTED = {
    # Plug-ins that the parameters use
    "data/degradations/fog.py": FOG,
    "data/degradations/lowlight.py": LOWLIGHT,
    "data/degradations/light.py": DEGRADED,  # fog and lowlight use it
    "data/sources/scenes/__init__.py": DATA,
    "models/restorers/nafnet.py": RESTORERS,
    "models/losses/pixel.py": f"objective@* {RESTORERS}",
    "models/losses/diffusion_terms.py": DIFFLOSS,
    "models/losses/lpips.py": "quality@* report publish",  # also a metric
    "models/tasks/detection.py": NETWORK.format("detection"),
    "models/tasks/segmentation.py": NETWORK.format("segmentation"),
    "pipeline/metrics/detection.py": DETECTION,
    "pipeline/metrics/segmentation.py": SEGMENTATION,
    "pipeline/metrics/image_quality.py": "quality@* report publish",
    # Parts of plug-ins
    "data/sources/scenes/street.py": DATA,
    "models/losses/diffloss.py": DIFFLOSS,
    "models/tasks/yolo_training.py": NETWORK.format("detection"),
    "pipeline/metrics/matching.py": DETECTION,
    # Shared code
    "data/images.py": ALL,
    "data/batches.py": TRAININGS,
    "data/degradations/recipes.py": f"plan {DEGRADED}",
    "models/diffusion/prior.py": f"plan {PRIOR}",
    "models/losses/objective.py": f"plan objective@* {RESTORERS}",
    "models/restorers/contract.py": f"plan {RESTORERS}",
    "models/restorers/onnx_file.py": "",
    "models/restorers/checkpoint.py": "plan publish",
    "models/restorers/sci.py": "plan publish",
    "models/tasks/contract.py": "plan " + NETWORK.format("*"),
    "models/settings.py": ALL,
    "pipeline/running/seeds.py": f"plan degrade@* {TRAININGS}",
    "pipeline/running/entry.py": "publish",  # how a stage runs, but nothing that it writes
    "pipeline/settings/params.py": ALL,
    "pipeline/datasets/importing.py": f"plan prepare degrade@* {TRAININGS}",
    "pipeline/datasets/manifests.py": DEGRADED,
    "pipeline/training/loop.py": TRAININGS,
    "pipeline/training/joint.py": "arm@* report publish",
    "pipeline/training/repeats.py": RESTORERS,
    "pipeline/training/restorers.py": RESTORERS,
    "pipeline/training/validation.py": RESTORERS,
    "pipeline/running/restoring.py": "restore@* quality@* evaluate@* arm_images@* arm@* report publish",
    "pipeline/metrics/evaluation.py": "evaluate_clean@* evaluate@* arm@* report publish",
    "pipeline/metrics/diffloss_terms.py": "quality@* report publish",
    "pipeline/statistics/verdicts.py": "report publish",
    "pipeline/reporting/tables.py": "report publish",
    "pipeline/reporting/pictures.py": "report publish",
    "pipeline/reporting/html/page.css": "report publish",
    "pipeline/tracking/streaming.py": "",  # sends curves to MLflow while a training runs
    "pipeline/tracking/store.py": "publish",
    "pipeline/tracking/served_restorer.py": "publish",
    "pipeline/commands/compare.py": "",
    # Stages
    "pipeline/code.py": "",
    "pipeline/plan.py": "plan",
    "pipeline/prepare.py": DATA,
    "pipeline/degrade.py": DEGRADED,
    "pipeline/train_prior.py": PRIOR,
    "pipeline/train_task.py": NETWORK.format("*"),
    "pipeline/objective.py": f"objective@* {RESTORERS}",
    "pipeline/train_mixture.py": "train_mixture@*",
    "pipeline/train_restorer.py": SPECIALISTS,
    "pipeline/restore.py": "restore@* quality@* evaluate@* report publish",
    "pipeline/quality.py": "quality@* report publish",
    "pipeline/evaluate.py": "evaluate@* report publish",
    "pipeline/evaluate_clean.py": "evaluate_clean@* report publish",
    "pipeline/arm_images.py": "arm_images@* arm@* report publish",
    "pipeline/arm.py": "arm@* report publish",
    "pipeline/report.py": "report publish",
    "pipeline/publish.py": "publish",
}


# What runs after a change in a plug-in that the parameters do not use, by its kind.
UNUSED = {
    "sources": "",
    "effects": "",
    "losses": "",
    "restorers": "publish",  # which must read any of them
    "tasks": "objective@*",  # which write what they wrote before
    "metrics": "report publish",
}
for kind, expected in UNUSED.items():
    for module in plugin_modules(kind).values():
        path = PROJECT.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        EXPECTED.setdefault(file.relative_to(PROJECT).as_posix(), expected)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny parameters and three arms."""
    folder = clone(tmp_path_factory.mktemp("code") / "project", "params.tiny.yaml")
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("arms: []", f"arms: [{ARMS}]"))
    return folder


@pytest.fixture(scope="module")
def stages(project: Path) -> Graph:
    """The dependencies and outputs of every stage, as DVC expands them."""
    with Repo(str(project)) as repo:
        return {
            stage.name: (
                {Path(dep.fs_path).relative_to(project).as_posix() for dep in stage.deps if dep.protocol == "local"},
                {Path(out.fs_path).relative_to(project).as_posix() for out in stage.outs},
            )
            for stage in repo.index.stages
        }


@pytest.fixture(scope="module")
def digests(project: Path) -> Iterator[dict[str, str]]:
    """The digests of the unchanged code, by file. Which files a module has is looked up once: none comes or goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_digests, "_files_of", cache(running_digests._files_of))
        yield _digests(project)


def _digests(project: Path) -> dict[str, str]:
    return {f"{CODE}/{name}": digest for name, digest in code_digests(load_params(project / "params.yaml"), project)}


def _run_again(changed: set[str], stages: Graph) -> set[str]:
    """The stages that DVC runs after these digests have changed, if every stage that runs writes something new.

    Three stages are exceptions. `plan` writes nothing that depends on the code. `train_mixture` writes the same for
    objectives that are on no mixture. `objective` writes something new only if its own code or that of its losses has
    changed, or, for DiffLoss, the prior.
    """
    dirty, running = set(changed), set()
    while new := {
        name
        for name, (dependencies, _) in stages.items()
        if name not in running and any(_overlap(dependency, path) for dependency in dependencies for path in dirty)
    }:
        running |= new
        for name in running:
            objective = name.removeprefix("objective@")
            causes = {f"{CODE}/stages/objective", f"{CODE}/objectives/{objective}"}
            causes |= {"artifacts/prior"} if objective == "diffloss" else set()
            if name != "plan" and "mixture" not in name and (objective == name or causes & dirty):
                dirty |= stages[name][1]
    return running


def _overlap(dependency: str, path: str) -> bool:
    return f"{path}/".startswith(f"{dependency}/") or f"{dependency}/".startswith(f"{path}/")


@pytest.mark.parametrize("file", EXPECTED)
def test_a_change_runs_these_stages_and_no_others(
    file: str, project: Path, stages: Graph, digests: dict[str, str]
) -> None:
    path = project / file
    original = path.read_bytes()
    try:
        path.write_bytes(original + (b"\nCHANGED = True\n" if path.suffix == ".py" else b" "))
        after = _digests(project)
    finally:
        path.write_bytes(original)
    changed = {name for name in digests if digests[name] != after[name]}
    patterns = EXPECTED[file].split()
    expected = {name for name in stages if any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert _run_again(changed, stages) == expected


def test_every_stage_and_every_package_has_an_expectation() -> None:
    files = {Path(file) for file in EXPECTED}
    assert {path.relative_to(PROJECT) for path in (PROJECT / "pipeline").glob("[a-z]*.py")} <= files
    packages = {path.parent.relative_to(PROJECT) for path in PROJECT.glob("[dmp]*/**/__init__.py")}
    known = {file.parent for file in files} | {Path("models")}
    assert {path for path in packages if path.parts[0] in PACKAGES} <= known
    assert set(UNUSED) == set(PLUGIN_TABLES)


def test_every_pattern_names_a_stage(stages: Graph) -> None:
    patterns = {pattern for expected in EXPECTED.values() for pattern in expected.split()}
    assert not [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in stages)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Says hello."""', '"""Greets."""'),
        ("# a comment", "# another comment"),
        ("greet(name)", "greet( name )"),
        ('"quiet": ".quiet:Quiet"', '"quiet": ".quiet:Quiet", "loud": ".loud:Loud"'),
    ],
)
def test_words_formatting_and_new_plug_ins_do_not_count(old: str, new: str, tmp_path: Path) -> None:
    file = _write_package(tmp_path)
    before = code_digest(["models.losses"], tmp_path)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert code_digest(["models.losses"], tmp_path) == before


@pytest.mark.parametrize(("old", "new"), [("return name", "return None"), ("ROUNDS = 1", "ROUNDS = 2")])
def test_code_counts(old: str, new: str, tmp_path: Path) -> None:
    file = _write_package(tmp_path)
    before = code_digest(["models.losses"], tmp_path)
    file.write_text(file.read_text().replace(old, new))
    assert code_digest(["models.losses"], tmp_path) != before


def test_a_template_counts_with_its_bytes_and_a_readme_does_not(tmp_path: Path) -> None:
    folder = _write_package(tmp_path).parent
    before = code_digest(["models.losses"], tmp_path)
    (folder / "README.md").write_text("words")
    assert code_digest(["models.losses"], tmp_path) == before
    (folder / "page.css").write_text("p {}")
    assert code_digest(["models.losses"], tmp_path) != before


def _write_package(root: Path) -> Path:
    """A package models.losses with a table of plug-ins; returns its __init__.py."""
    file = root / "models" / "losses" / "__init__.py"
    file.parent.mkdir(parents=True)
    (root / "models" / "__init__.py").touch()
    file.write_text(
        '"""Says hello."""\n\nROUNDS = 1  # a comment\nLOSSES = {"quiet": ".quiet:Quiet"}\n\n\n'
        "def greet(name):\n    return name\n\n\ngreet(name)\n"
    )
    return file


def test_imports_are_followed_wherever_they_stand(tmp_path: Path) -> None:
    for name, text in {
        "pipeline/__init__.py": "",
        "pipeline/stage.py": "from pipeline import helper\nfrom pipeline.running import entry\n",
        "pipeline/helper.py": "def f():\n    import data.deep\n",
        "pipeline/running/__init__.py": "",
        "pipeline/running/entry.py": "import data.never\n",
        "data/__init__.py": "",
        "data/never.py": "",
        "data/deep.py": "from typing import TYPE_CHECKING\nfrom .beside import x\n"
        "if TYPE_CHECKING:\n    import models.a\n",
        "data/beside.py": "x = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    files = imported_files(["pipeline.stage"], tmp_path, without=["pipeline.running.entry"])
    assert {path.relative_to(tmp_path).as_posix() for path in files} == {
        "pipeline/__init__.py",
        "pipeline/stage.py",
        "pipeline/helper.py",
        "pipeline/running/__init__.py",
        "data/__init__.py",
        "data/deep.py",
        "data/beside.py",
    }
    with pytest.raises(FileNotFoundError, match="no such module of this project"):
        imported_files(["pipeline.nothing"], tmp_path)


def test_a_stage_stops_if_the_code_has_changed_since_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise DVC would store its outputs as those of the old code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "plan")
    monkeypatch.setattr("sys.argv", ["pipeline/plan.py"])
    recorded = tmp_path / CODE / "stages" / "plan"
    recorded.parent.mkdir(parents=True)
    recorded.write_text(f"{stage_digest('plan')}\n")
    run_stage(lambda: print("ran"))
    assert capsys.readouterr().out.splitlines()[0] == "ran"  # the time that it took may follow
    recorded.write_text("0123456789abcdef\n")
    with pytest.raises(SystemExit, match=r"^error: artifacts/code/stages/plan: the code has changed since"):
        run_stage(lambda: print("ran"))
    monkeypatch.delenv("DVC_STAGE")  # by hand, a stage runs whatever DVC knows
    run_stage(lambda: print("ran"))
