"""DVC in this environment writes its lock files whole or not at all: tools/whole_locks."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

STAGES, DEPS = 25, 40
KILLS = 60
SEED = int(os.environ.get("KILL_SEED", "0"))

# Each writes half of a file through DVC and is killed. {fs} is the file system that DVC hands to its own function.
DUMP = """
import os, signal, sys
from pathlib import Path
from dvc.fs import localfs
from dvc.utils.serialize import _common
def half(data, stream):
    stream.write("stages:\\n  half"); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)
_common._dump_data(sys.argv[1], {{}}, half, fs={fs})
"""
LOCK = """
import os, signal, sys
from pathlib import Path
from dvc.fs import localfs
from dvc import rwlock
def half(data, stream):
    stream.write('{{"wri'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)
rwlock.json.dump = half
with rwlock._edit_rwlock(str(Path(sys.argv[1]).parent), {fs}, False):
    pass
"""


@pytest.mark.parametrize(
    ("code", "fs", "name", "content"),
    [
        (DUMP, "localfs", "dvc.lock", "stages: {}\n"),
        (DUMP, "None", "dvc.lock", "stages: {}\n"),
        (LOCK, "localfs", "rwlock", '{"read": {}, "write": {}}'),
    ],
)
def test_a_kill_in_the_middle_of_a_write_leaves_the_file_as_it_was(
    tmp_path: Path, code: str, fs: str, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    command = [sys.executable, "-c", code.format(fs=fs), str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / name).read_text() == content


def test_a_failed_write_leaves_the_file_as_it_was_and_the_next_one_succeeds(tmp_path: Path) -> None:
    from dvc.utils.serialize import dump_yaml, load_yaml

    path = tmp_path / "dvc.lock"
    dump_yaml(path, {"stages": {"a": 1}})
    with pytest.raises(Exception, match="cannot represent"):
        dump_yaml(path, {"stages": {"a": 2, "b": object()}})
    assert load_yaml(path) == {"stages": {"a": 1}}
    dump_yaml(path, {"stages": {"a": 3}})
    assert load_yaml(path) == {"stages": {"a": 3}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["dvc.lock"]


def test_python_starts_without_importing_dvc_or_the_wrapping() -> None:
    code = "import sys; print([name for name in sys.modules if name.split('.')[0] in ('dvc', 'whole_locks')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['whole_locks']"


def _project(folder: Path) -> None:
    """Stages that take no time, each with many files to note: DVC is nearly always writing its lock file."""
    folder.mkdir()
    files = [f"input-{number}.txt" for number in range(DEPS)]
    for name in files:
        (folder / name).write_text(name)
    command = "python -c \"open('{}', 'w').write('x')\""
    stages = {
        f"stage-{number}": {"cmd": command.format(f"out-{number}"), "deps": files, "outs": [f"out-{number}"]}
        for number in range(STAGES)
    }
    YAML().dump({"stages": stages}, folder / "dvc.yaml")
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)


@pytest.mark.slow
def test_killed_while_it_writes_its_lock_files_dvc_goes_on(tmp_path: Path) -> None:
    """uv run pytest -m slow tests/test_whole_locks.py -s"""
    generator, hit = random.Random(SEED), 0
    folder, log = tmp_path / "project", tmp_path / "log"
    _project(folder)
    while hit < KILLS:
        (folder / f"input-{hit % DEPS}.txt").write_text(f"changed {hit}")
        with log.open("w") as output:
            process = subprocess.Popen(["dvc", "repro"], cwd=folder, stdout=output, stderr=output)
            time.sleep(generator.uniform(1.0, 6.0))
            over = process.poll() is not None
            process.kill()
            assert process.wait() == (0 if over else -signal.SIGKILL), log.read_text()
        hit += not over
        print(f"{hit} kills; half-written: {[path.name for path in folder.glob('*.part')]}")
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True)
    assert len(YAML(typ="safe").load(folder / "dvc.lock")["stages"]) == STAGES
