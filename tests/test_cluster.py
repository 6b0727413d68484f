"""The engine `ray` on a cluster of two machines that are processes here: the same bytes, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from data.batches import MaskBatches
from data.dataset import Dataset
from models.restorers import build_restorer, load_restorer, save_restorer
from models.tasks import get_task
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.metrics.evaluation import evaluate
from pipeline.metrics.image_quality import ImageQuality
from pipeline.quality import measure
from pipeline.running.artifacts import read_from
from pipeline.running.execution import ClusterError, in_parallel
from pipeline.running.restoring import restore_split
from pipeline.settings.data import Degrade
from pipeline.settings.training import Restore
from pipeline.training.loop import Loop

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
JOB_SECONDS = 0.1


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """The first machine of a cluster, which RAY_ADDRESS names; all its processes end with the module."""
    ray = pytest.importorskip("ray", reason="Ray is in the group `scale`")
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        machines = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            patch.setenv("RAY_ADDRESS", machines.address)
            yield machines
        finally:
            ray.shutdown()
            machines.shutdown()


@pytest.fixture
def second(head: Any) -> Iterator[Any]:
    """The second machine."""
    node = head.add_node(**NODE)
    yield node
    if node in head.list_all_nodes():
        head.remove_node(node)


@pytest.fixture
def _two_threads() -> Iterator[None]:
    """Networks give other bytes with another number of threads, so that workers must have as many as this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _slow_square(folder: Path, number: int) -> int:
    import ray

    (folder / f"{number}-{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()
    time.sleep(JOB_SECONDS)
    return number * number


def _at_work(began: Path, node: str) -> int | None:
    """The process of a machine that is in the first half of a job."""
    marks = {path: time.time() - path.stat().st_mtime for path in began.glob(f"*-{node}-*")}
    newest = min(marks, key=marks.__getitem__, default=None)
    return int(newest.name.split("-")[-1]) if newest and marks[newest] < JOB_SECONDS / 2 else None


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow  # it kills a machine in the middle of its work, and so needs time to its liking
def test_what_a_dead_machine_was_doing_is_done_elsewhere(head: Any, second: Any, tmp_path: Path) -> None:
    (tmp_path / "began").mkdir()
    found = in_parallel(partial(_slow_square, tmp_path / "began"), ((number,) for number in range(64)), "ray")
    results = [next(found)]
    while (worker := _at_work(tmp_path / "began", second.node_id)) is None:
        time.sleep(0.005)
    os.kill(worker, signal.SIGKILL)  # it would outlive the death of its machine here
    head.remove_node(second, allow_graceful=False)
    results += list(found)
    assert results == [number * number for number in range(64)]
    began = Counter(path.name.split("-")[0] for path in (tmp_path / "began").iterdir())
    assert len(began) == 64 and max(began.values()) == 2, "the piece that the dead machine had was begun twice"


def test_what_a_job_raises_is_raised_here_and_nothing_goes_on(head: Any, tmp_path: Path) -> None:
    def fail(folder: Path, number: int) -> int:
        if number == 9:
            raise FileNotFoundError("no image 9")
        return _slow_square(folder, number)

    with pytest.raises(FileNotFoundError, match="no image 9"):
        list(in_parallel(partial(fail, tmp_path), ((number,) for number in range(100)), "ray"))
    begun = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun < 50


def _degrade(clean: Dataset, out: Path, engine: Any) -> Dataset:
    section = Degrade(severity=[2, 4])
    degrade_dataset(clean, recipe_of(section, "lowlight"), section, 0, out, engine)
    return Dataset.open(out)


@pytest.mark.slow
@pytest.mark.usefixtures("_two_threads")
def test_every_stage_writes_the_same_bytes(
    head: Any, second: Any, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset(train=6, val=2, test=12)
    torch.manual_seed(0)
    restorer = build_restorer("nafnet", {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]})
    for weight in restorer.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    save_restorer(tmp_path / "restorer.safetensors", restorer)
    load = partial(load_restorer, tmp_path / "restorer.safetensors")
    network = _segmenter(clean, tmp_path / "task")
    for engine in ("local", "ray"):
        out = tmp_path / engine
        degraded = _degrade(clean, out / "degraded", engine).split("test@4")
        (out / "restored").mkdir()
        restore_split(load, degraded, Restore(tile=None, overlap=0), out / "restored" / "test@4", "", engine)
        read = partial(read_from, out / "restored" / "test@4")
        readers = {("pixel", "test"): read}
        records = measure(clean.split("test"), readers, ImageQuality.measures, engine=engine)
        records["pixel", "test"].save(out / "quality.npz")
        evaluate(network(), degraded, read, out / "predictions", "", network if engine == "ray" else None)
    assert _files(tmp_path / "ray") == _files(tmp_path / "local")
    assert len(list((tmp_path / "ray").rglob("*.png"))) > 50


def _segmenter(clean: Dataset, folder: Path) -> Callable[[], Any]:
    """Saves a segmenter that has seen little; gives what loads it."""
    folder.mkdir()
    settings = {"encoder": "tu-mobilenetv3_small_050", "steps": 2, "batch": 2, "crop": 32}
    split, loop = clean.split("train"), Loop("task", folder / "work", 0, CPU)
    task = get_task("segmentation")
    task.fit(split, partial(MaskBatches, split, 0), clean.info.classes["segmentation"], settings, loop).save(folder)
    return partial(task.load, folder, CPU)


def _begun(clean: Dataset, out: Path, images: int) -> subprocess.Popen[bytes]:
    """The stage degrade on the cluster, when more than so many images are finished."""
    options = ["--recipe", "lowlight", "--clean", str(clean.folder), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stage = subprocess.Popen([sys.executable, "-m", "pipeline.degrade", *options], env=environment)
    while len(list(Path("work").rglob("images/*.png"))) <= images:
        assert stage.poll() is None, "it ended too early to be killed"
        time.sleep(0.02)
    return stage


@pytest.mark.slow
def test_a_killed_stage_and_a_killed_machine_lose_nothing_that_is_finished(
    head: Any, second: Any, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset(train=2, val=1, test=300, size=(96, 128))
    settings = (ROOT / "params.tiny.yaml").read_text().replace("engine: local", "engine: ray")
    (tmp_path / "params.yaml").write_text(settings)
    stage = _begun(clean, tmp_path / "out", images=0)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("images/*.png")}
    assert 0 < len(finished) < 303 and not (tmp_path / "out").exists()
    stage = _begun(clean, tmp_path / "out", images=len(finished) + 16)
    head.remove_node(second, allow_graceful=False)
    assert stage.wait() == 0
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("images/*.png")}
    assert finished.items() <= kept.items()
    section = Degrade(severity=3)
    degrade_dataset(clean, recipe_of(section, "lowlight"), section, 0, tmp_path / "local")
    assert _files(tmp_path / "out") == _files(tmp_path / "local")


@pytest.mark.parametrize(
    ("address", "missing", "text"),
    [
        (None, False, r"^params\.yaml: engine: ray needs the cluster's address.*RAY_ADDRESS"),
        ("auto", True, r"^params\.yaml: engine: ray needs Ray, which is not installed. Run `uv sync --group scale`"),
    ],
)
def test_what_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str | None, missing: bool, text: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    if missing:
        monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=text) as error:
        in_parallel(pow, [(2, 3)], "ray")
    assert "\n" not in str(error.value)
