"""The tiny DAG twice, in two clones, with one seed: the same files, byte for byte, but for what measures time."""

import hashlib
import re
from pathlib import Path

import pytest
from clones import clone, dvc

# What differs by nature is times; docs/explanation/robustness.md says where.
MEASURED = re.compile(r"artifacts/(costs/.*|report/costs\.csv)")
COSTS_IN_WORDS = re.compile(
    rb'<table data-table="costs">.*?</table>|^### Costs on this machine\n.*?(?=^## )', re.DOTALL | re.MULTILINE
)


def _digests(folder: Path) -> dict[str, str]:
    """The files of artifacts/, but for what was measured; the reports without their tables of costs."""
    found = {}
    for path in sorted(path for path in (folder / "artifacts").rglob("*") if path.is_file()):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        if path.name in ("report.md", "report.html"):
            content, tables = COSTS_IN_WORDS.subn(b"", content)
            assert tables == 1, f"{name}: {tables} tables of costs"
        if not MEASURED.fullmatch(name):
            found[name] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.slow
def test_two_runs_with_one_seed_give_identical_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")  # as many threads as in a user's run
    found = []
    for name in ("first", "second"):
        folder = clone(tmp_path / name / "project", "params.tiny.yaml")
        done = dvc(folder, "repro")
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(_digests(folder))
    first, second = found
    assert len(first) > 100 and first.keys() == second.keys()
    different = [name for name in first if first[name] != second[name]]
    assert not different, different
