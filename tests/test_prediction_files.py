"""Stored predictions are read once as long as they fit."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.metrics.prediction_files import PredictionReader


class _Scoring:
    """Counts how often a folder is read."""

    read_from: list[str]

    @classmethod
    def read(cls, folder: Path) -> dict[str, str]:
        cls.read_from.append(folder.name)
        return {"image": folder.name}


def test_the_last_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.json").write_text("0123456789")
    monkeypatch.setattr("pipeline.metrics.prediction_files.KEPT_BYTES", 20)
    reader, scoring = PredictionReader(), _Scoring
    scoring.read_from = []
    any_scoring: Any = scoring
    for name in "abacab":  # c takes the place of b, which was used before a
        assert reader.read(any_scoring, tmp_path / name) == {"image": name}
    assert scoring.read_from == ["a", "b", "c", "b"]
    monkeypatch.setattr("pipeline.metrics.prediction_files.KEPT_BYTES", 1)
    reader = PredictionReader()
    assert [reader.read(any_scoring, tmp_path / "a")["image"] for _ in range(2)] == ["a", "a"]
    assert scoring.read_from[4:] == ["a"]  # one is kept, however large
