"""The stage `code`: what each change in the code re-runs, compared with an expectation written by hand."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from clones import clone
from dvc.repo import Repo

from pipeline.code import code_digests
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
CODE = "artifacts/code"
ALL = "plan prepare degrade@* train_prior train_task@* objective@* train_restorer@* restore@* quality@* evaluate@* arm_images@* arm@* report publish"
AFTER_RESTORERS = "restore@* quality@* evaluate@* arm_images@* arm@* report publish"
ARMS = "degraded-retrained, pixel-retrained, clean-restored-diffloss"

# A changed file, and the stages that then run besides `code`; one `*` stands for any item of a matrix.
EXPECTED = {}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny parameters and three arms."""
    folder = clone(tmp_path_factory.mktemp("code") / "project", "params.tiny.yaml")
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("arms: []", f"arms: [{ARMS}]"))
    return folder


@pytest.fixture(scope="module")
def stages(project: Path) -> dict[str, tuple[set[str], set[str]]]:
    """Name, dependencies and outputs of every stage, as DVC expands them."""
    with Repo(str(project)) as repo:
        return {
            stage.addressing: (
                {Path(dep.fs_path).relative_to(project).as_posix() for dep in stage.deps if dep.protocol == "local"},
                {Path(out.fs_path).relative_to(project).as_posix() for out in stage.outs},
            )
            for stage in repo.index.stages
        }


def digests(project: Path) -> dict[str, str]:
    return {f"{CODE}/{name}": digest for name, digest in code_digests(load_params(project / "params.yaml"), project)}


def run_again(changed: set[str], stages: dict[str, tuple[set[str], set[str]]]) -> set[str]:
    """The stages that DVC runs when these files have changed, in the worst case that outputs change, too.

    `plan` writes nothing that depends on code, and `objective` only copies digests.
    """
    dirty = set(changed)
    running: set[str] = set()
    while True:
        new = {
            name
            for name, (deps, _) in stages.items()
            if name not in running and name != "code" and any(_overlaps(dep, path) for dep in deps for path in dirty)
        }
        if not new:
            return running
        running |= new
        for name in new:
            objective = name.partition("@")[2]
            passes_on = name != "plan" and (
                not name.startswith("objective@") or f"{CODE}/objectives/{objective}" in changed
            )
            dirty |= stages[name][1] if passes_on else set()


def _overlaps(dependency: str, path: str) -> bool:
    return f"{path}/".startswith(f"{dependency}/") or f"{dependency}/".startswith(f"{path}/")


@pytest.mark.parametrize("file", EXPECTED)
def test_a_change_runs_these_stages_and_no_others(
    file: str, project: Path, stages: dict[str, tuple[set[str], set[str]]]
) -> None:
    before = digests(project)
    path = project / file
    original = path.read_bytes()
    try:
        path.write_bytes(original + (b"\nCHANGED = True\n" if path.suffix == ".py" else b" "))
        after = digests(project)
    finally:
        path.write_bytes(original)
    changed = {name for name in before if before[name] != after[name]}
    patterns = EXPECTED[file].split()
    expected = {name for name in stages if any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert all(any(fnmatchcase(name, pattern) for name in stages) for pattern in patterns)
    assert run_again(changed, stages) == expected
