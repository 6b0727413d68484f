import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblib import cpu_count

from pipeline.running.execution import AHEAD, in_parallel, in_threads, through_network


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


def test_threads_keep_the_order_and_run_only_a_few_jobs_ahead() -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[tuple[int, int]]:
        for exponent in range(100):
            drawn.append(exponent)
            yield 2, exponent

    results = in_threads(pow, jobs())
    assert next(results) == 1
    assert len(drawn) == AHEAD * cpu_count() + 1
    assert list(results) == [2**exponent for exponent in range(1, 100)]


def test_what_a_thread_raises_is_raised_here_and_no_further_job_starts() -> None:
    started: list[int] = []

    def fail(number: int) -> None:
        started.append(number)
        raise ValueError(f"{number} is bad")

    with pytest.raises(ValueError, match="0 is bad"):
        list(in_threads(fail, ((number,) for number in range(100))))
    assert len(started) <= AHEAD * cpu_count() + 1


def test_a_network_runs_here_and_reading_and_writing_beside_it() -> None:
    threads: dict[str, set[str]] = {"read": set(), "use": set(), "write": set()}

    def step(name: str, value: int) -> int:
        threads[name].add(threading.current_thread().name)
        return value + 1

    results = through_network(
        load=lambda: 10,
        read=lambda value: step("read", value),
        use=lambda network, value: step("use", network * value),
        write=lambda value: step("write", value),
        jobs=((number,) for number in range(50)),
    )
    assert list(results) == [10 * (number + 1) + 2 for number in range(50)]
    here = threading.current_thread().name
    assert threads["use"] == {here} and here not in threads["read"] | threads["write"]


def test_an_error_in_reading_or_writing_ends_the_work(tmp_path: Path) -> None:
    def use(network: None, text: str) -> str:
        return text

    (tmp_path / "text").write_text("x")
    jobs = [(tmp_path / name,) for name in ("text", "missing", "text")]
    with pytest.raises(FileNotFoundError, match="missing"):
        list(through_network(lambda: None, Path.read_text, use, len, jobs))
    with pytest.raises(ValueError, match="x is bad"):
        list(through_network(lambda: None, Path.read_text, use, _fail, jobs[:1]))
