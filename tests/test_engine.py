from pathlib import Path

import pytest

from pipeline.running.execution import in_parallel


def _read(name: str, times: int) -> str:
    return Path(name).read_text() * times


def _fail(name: str) -> str:
    raise ValueError(f"{name} is bad")


def test_results_come_in_the_order_of_the_jobs() -> None:
    assert list(in_parallel(pow, ((2, exponent) for exponent in range(40)))) == [2**exponent for exponent in range(40)]


def test_relative_paths_mean_the_same_after_this_process_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert list(in_parallel(_read, [("text", 2)] * 8)) == [name * 2] * 8


def test_what_a_job_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="3 is bad"):
        list(in_parallel(_fail, (("3",) for _ in range(4))))
