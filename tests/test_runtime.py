import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import duration
from pipeline.running.seeds import seed_for

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "artifacts" / "x"
    with pytest.raises(RuntimeError), replacing_folder(out) as folder:
        (folder / "half").write_text("1")
        raise RuntimeError
    assert not out.exists()
    assert list((tmp_path / "work" / "unfinished").iterdir()) == []
    with replacing_folder(out) as folder:
        (folder / "whole").write_text("1")
        assert not out.exists()
    assert (out / "whole").exists()


def test_an_output_replaces_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "x"
    for content in ("old", "new"):
        with replacing_folder(out) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in out.iterdir()] == ["new"]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom pipeline.running.atomic_outputs import replacing_folder\n"
        "with replacing_folder(Path('out')) as f:\n    (f / 'half').write_text('1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not Path("out").exists()
    with replacing_folder(Path("out")) as folder:
        assert list(folder.iterdir()) == []
        (folder / "whole").write_text("1")
    assert [path.name for path in Path("out").iterdir()] == ["whole"]


def test_seeds_are_stable_and_different() -> None:
    assert seed_for(0, "a") == 8617095791668180470
    assert len({seed_for(0, "a"), seed_for(0, "b"), seed_for(1, "a"), seed_for("0a")}) == 4


@pytest.mark.parametrize(("error", "shown"), [("ParamsError", "error: the seed is odd"), ("ValueError", "Traceback")])
def test_our_errors_are_one_line_and_others_keep_their_traceback(error: str, shown: str) -> None:
    code = (
        "from pipeline.running.entry import run_stage\nfrom pipeline.settings.params import ParamsError\n"
        f"def main():\n    raise {error}('the seed is odd')\nrun_stage(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and shown in done.stderr
    assert ("Traceback" in done.stderr) == (shown == "Traceback")


@pytest.mark.parametrize(
    ("environment", "lines"),
    [({"DVC_STAGE": "dvc.yaml:restore@fog-pixel"}, 1), ({"DVC_STAGE": "restore", "LOCAL_RANK": "1"}, 0), ({}, 0)],
    ids=["by DVC", "a further rank", "by hand"],
)
def test_a_stage_prints_one_line_with_its_duration(environment: dict[str, str], lines: int) -> None:
    known = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.running.entry import run_stage\nrun_stage(lambda: None)\n"],
        env={**known, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == lines
    assert not lines or re.fullmatch(r"restore@fog-pixel: \d+ s\n", done.stdout)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_stage_dies_with_its_parent(tmp_path: Path) -> None:
    stage = "import time\nfrom pipeline.running.entry import run_stage\nrun_stage(lambda: time.sleep(60))\n"
    (tmp_path / "stage.py").write_text(stage)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess\np = subprocess.Popen([{sys.executable!r}, 'stage.py'])\n"
            "print(p.pid, flush=True)\np.wait()",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "test"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(50):
        if not Path(f"/proc/{child}/stat").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the stage outlived its parent")
