"""Several stages at once: a small DVC project whose stages say when they ran."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clones import TABLES, clone, dvc, environment
from ruamel.yaml import YAML

from pipeline.commands import parallel_workers
from pipeline.commands.parallel import Schedule, closing_stages, opening_stage

ROOT = Path(__file__).parents[1]
STAGE = """
import os, pathlib, sys, time
name, out, *inputs = sys.argv[1:]
start = time.time()
if name in pathlib.Path("fails.txt").read_text().split():
    time.sleep(0.5)
    sys.exit(f"{name} has failed")
time.sleep(float(pathlib.Path("seconds.txt").read_text()))
pathlib.Path(out).write_text(name + "".join(pathlib.Path(file).read_text() for file in inputs))
with open("times.txt", "a") as file:
    print(name, start, time.time(), os.environ.get("OMP_NUM_THREADS"), file=file)
"""
MATRIX = {"part": "${parts}"}
DAG = {
    "first": {"cmd": "python stage.py first first.txt", "params": ["parts"], "outs": ["first.txt"]},
    "middle": {
        "matrix": MATRIX,
        "cmd": 'python stage.py "middle-${item.part}" "middle-${item.part}.txt" first.txt',
        "deps": ["first.txt"],
        "outs": ["middle-${item.part}.txt"],
    },
    "end": {
        "matrix": MATRIX,
        "cmd": 'python stage.py "end-${item.part}" "ends/${item.part}" "middle-${item.part}.txt"',
        "deps": ["middle-${item.part}.txt"],
        "outs": ["ends/${item.part}"],
    },
    "last": {"cmd": "python stage.py last last.txt", "deps": ["ends"], "outs": ["last.txt"]},
}
PARTS = ["a", "b + c"]


STARTED: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """Ends what a failed test leaves behind, with its stages. Ctrl-C is heard, also in tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `dvc init` makes, for tests to copy."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    folder.mkdir()
    subprocess.run(["dvc", "init", "-q", "--no-scm"], cwd=folder, env=_environment(folder), check=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, empty_project: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(empty_project, folder)
    (folder / "ends").mkdir()
    yaml = YAML()
    yaml.dump({"stages": DAG}, folder / "dvc.yaml")
    yaml.dump({"parts": PARTS}, folder / "params.yaml")
    (folder / "stage.py").write_text(STAGE)
    (folder / "fails.txt").write_text("")
    (folder / "seconds.txt").write_text("0.2")
    (folder / "ends" / ".gitignore").write_text("/*\n")
    return folder


def _environment(folder: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT), "DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
    return {**{name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "CUDA_"))}, **own}


def _start(folder: Path, jobs: int = 2) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.commands.parallel", "-j", str(jobs)],
        cwd=folder,
        env={**_environment(folder), "LOKY_MAX_CPU_COUNT": "2"},  # what joblib takes for the number of cores
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    STARTED.append(process)
    return process


def _run(folder: Path, jobs: int = 2) -> tuple[int, str]:
    process = _start(folder, jobs)
    text, _ = process.communicate(timeout=300)
    return process.returncode, text


def _times(folder: Path) -> dict[str, tuple[float, float]]:
    file = folder / "times.txt"
    lines = [line.rsplit(" ", 3) for line in file.read_text().splitlines()] if file.exists() else []
    assert len({line[0] for line in lines}) == len(lines), "a stage has run twice"
    return {name: (float(start), float(end)) for name, start, end, *_ in lines}


def _wait_for(happened: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def _is_up_to_date(folder: Path) -> bool:
    done = subprocess.run(
        ["dvc", "status", "--json"], cwd=folder, env=_environment(folder), capture_output=True, check=True
    )
    return json.loads(done.stdout) == {}


def test_ready_stages_run_side_by_side_and_in_order(project: Path) -> None:
    (project / "seconds.txt").write_text("3")  # more than DVC takes to start
    code, text = _run(project)
    assert code == 0, text
    times = _times(project)
    assert set(times) == {"first", "middle-a", "middle-b + c", "end-a", "end-b + c", "last"}
    for part in PARTS:
        assert times["first"][1] <= times[f"middle-{part}"][0] <= times[f"end-{part}"][0] <= times["last"][0]
    (one, two) = (times[f"middle-{part}"] for part in PARTS)
    assert max(one[0], two[0]) < min(one[1], two[1]), "they did not overlap"
    assert "1" in {line.split()[-1] for line in (project / "times.txt").read_text().splitlines()}, "no share of cores"
    assert _is_up_to_date(project)
    assert (project / "last.txt").read_text() == "last"
    assert "[5/5]" in text and "Running stage 'last'" in text  # the last stage's output is on the terminal


@pytest.mark.slow
def test_what_is_up_to_date_is_not_started_and_what_behind_a_change_is(project: Path) -> None:
    assert _run(project)[0] == 0
    (project / "times.txt").unlink()
    code, text = _run(project)
    assert code == 0 and "[" not in text and not _times(project)
    YAML().dump({"parts": [*PARTS, "new"]}, project / "params.yaml")
    assert _run(project)[0] == 0
    assert set(_times(project)) == {"first", "middle-new", "end-new", "last"}
    assert _is_up_to_date(project)


def test_a_failure_lets_the_running_end_and_starts_no_more(project: Path) -> None:
    (project / "seconds.txt").write_text("2")
    (project / "fails.txt").write_text("middle-a")
    code, text = _run(project)
    assert code == 1
    assert set(_times(project)) == {"first", "middle-b + c"}
    assert "middle-a has failed" in text
    assert text.splitlines()[-1].startswith("error: middle@a failed: see work/logs/middle@a.log. Finished stages")
    (project / "fails.txt").write_text("")
    assert _run(project)[0] == 0
    assert set(_times(project)) == {"first", "middle-a", "middle-b + c", "end-a", "end-b + c", "last"}


@pytest.fixture
def another(project: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that DVC believes to be writing `first.txt`."""
    with subprocess.Popen(["sleep", "600"]) as process:
        info = {"pid": process.pid, "cmd": "dvc repro"}
        (project / ".dvc" / "tmp").mkdir(exist_ok=True)
        (project / ".dvc" / "tmp" / "rwlock").write_text(json.dumps({"write": {str(project / "first.txt"): info}}))
        yield process
        process.kill()


def test_another_dvc_is_named(project: Path, another: "subprocess.Popen[bytes]") -> None:
    code, text = _run(project)
    assert code == 1 and len(text.splitlines()) == 1
    assert text.startswith("error: another DVC process runs here: '")
    assert f"(PID {another.pid}): dvc repro" in text


def test_a_busy_file_is_waited_for(
    project: Path, another: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(parallel_workers, "PAUSE", 0.5)
    worker = parallel_workers.Worker(_environment(project))
    worker.start("first")
    _wait_for(lambda: worker.poll() is None and "busy" in worker.log.read_text())
    another.kill()
    another.wait()
    _wait_for(lambda: worker.poll() is not None)
    assert worker.poll() == 0, worker.tail()
    assert set(_times(project)) == {"first"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_stages_end_with_it(project: Path, number: signal.Signals) -> None:
    (project / "seconds.txt").write_text("1000")
    process = _start(project)
    _wait_for(lambda: bool(_stages_of(project)))
    process.send_signal(number)
    text, _ = process.communicate(timeout=300)
    _wait_for(lambda: not _stages_of(project))
    assert process.returncode != 0 and "Traceback" not in text
    if number == signal.SIGINT:
        assert text.splitlines()[-1] == "interrupted: `uv run dvc repro` goes on from here"


def test_a_second_one_is_refused(project: Path) -> None:
    (project / "seconds.txt").write_text("1000")
    process = _start(project)
    _wait_for((project / "work" / "parallel.lock").exists)
    code, text = _run(project)
    process.terminate()
    process.communicate(timeout=300)
    assert code == 1
    assert text == "error: another `pipeline.commands.parallel` runs in this folder. Wait for it, or end it.\n"


def test_a_faulty_project_is_one_line(project: Path, tmp_path: Path) -> None:
    (project / "params.yaml").write_text("{}\n")
    code, text = _run(project)
    assert code == 1 and text.startswith("error: dvc.yaml: ") and "Traceback" not in text
    code, text = _run(tmp_path)
    assert code == 1 and text.startswith("error: dvc.yaml: ") and "Traceback" not in text
    assert _run(project, 0) == (1, "error: --jobs: expected at least 1, got 0. Choose a larger number.\n")


def _stages_of(folder: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink() == folder and b"stage.py" in (place / "cmdline").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


def test_shares_of_the_machine() -> None:
    assert (
        parallel_workers.environments(2, 8, [], {"A": "b"})
        == [{"OMP_NUM_THREADS": "4", "LOKY_MAX_CPU_COUNT": "4", "A": "b"}] * 2
    )
    assert [one["OMP_NUM_THREADS"] for one in parallel_workers.environments(3, 2, [], {})] == ["1"] * 3
    assert parallel_workers.environments(1, 8, [], {"OMP_NUM_THREADS": "3"})[0]["OMP_NUM_THREADS"] == "3"
    gpus = parallel_workers.environments(3, 8, ["4", "7"], {"CUDA_VISIBLE_DEVICES": "4,7"})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in gpus] == ["4", "7", "4"]


def test_opening_and_closing_stages() -> None:
    fan = {"a": frozenset[str](), "b": frozenset("a"), "c": frozenset("a"), "d": frozenset("bc"), "e": frozenset("d")}
    assert closing_stages(fan) == ["d", "e"]
    assert closing_stages({**fan, "x": frozenset("a")}) == []
    assert opening_stage(fan) == "a"
    assert opening_stage({**fan, "x": frozenset[str]()}) is None
    schedule = Schedule(fan, ["c"], ["d", "e"])
    assert (schedule.next(), schedule.next(), schedule.done, schedule.total) == ("c", None, 2, 3)
    schedule.finish("c")
    assert schedule.done == 3


@pytest.mark.slow
def test_the_tiny_dag_gives_the_same_lock_file_and_report(tmp_path: Path) -> None:
    folders = [clone(tmp_path / name / "project", "params.tiny.yaml") for name in ("plain", "parallel")]
    commands = [["dvc", "repro"], [sys.executable, "-m", "pipeline.commands.parallel", "-j", "2"]]
    for folder, command in zip(folders, commands, strict=True):
        one_thread = {**environment(folder), "OMP_NUM_THREADS": "1"}  # their number may change the last bit of a sum
        done = subprocess.run(command, cwd=folder, env=one_thread, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not dvc(folders[1], "status", "--quiet").returncode
    plain, parallel = (_without_costs(folder) for folder in folders)
    assert plain == parallel
    for name in TABLES:
        path = Path("artifacts") / "report" / name
        assert (folders[0] / path).read_bytes() == (folders[1] / path).read_bytes()


def _without_costs(folder: Path) -> dict[str, object]:
    """dvc.lock without what holds seconds: the costs, and the report that shows them."""
    stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    for stage in stages.values():
        for kind in ("deps", "outs"):
            timed = ("artifacts/costs", "artifacts/report", "artifacts/published")
            stage[kind] = [entry for entry in stage.get(kind, []) if not entry["path"].startswith(timed)]
    return dict(stages)
