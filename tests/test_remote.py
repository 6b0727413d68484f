"""What docs/how-to/scaling.md says about a remote on S3 and about queued experiments, tried here on one machine."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import clone, dvc, edit

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
COMMIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "all"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty S3 bucket on this machine."""
    pytest.importorskip("dvc_s3", reason="needs `uv sync --group scale`")
    moto = pytest.importorskip("moto.server", reason="needs `uv sync --group scale`")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        import boto3

        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket="results")
        client.close()
        yield address
    finally:
        server.stop()


def _succeeds(folder: Path, *arguments: str) -> str:
    done = dvc(folder, *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # moto's and boto's own sockets
def test_what_one_clone_pushes_to_s3_another_pulls(bucket: str, tmp_path: Path) -> None:
    here, there = (clone(tmp_path / name / "project", "params.tiny.yaml") for name in ("here", "there"))
    for folder in (here, there):
        _succeeds(folder, "remote", "add", "--default", "bucket", "s3://results/restoration")
        _succeeds(folder, "remote", "modify", "bucket", "endpointurl", bucket)
    _succeeds(here, "repro", "degrade")
    _succeeds(here, "push")
    (there / "dvc.lock").write_bytes((here / "dvc.lock").read_bytes())
    _succeeds(there, "pull", "degrade", "--with-deps")
    assert "Running stage" not in _succeeds(there, "repro", "degrade")
    for name in ("clean", "degraded/fog"):
        one, other = (
            {
                path.relative_to(folder): path.read_bytes()
                for path in (folder / "artifacts" / name).rglob("*")
                if path.is_file()
            }
            for folder in (here, there)
        )
        assert one == other and len(one) > 28


@pytest.mark.slow
def test_queued_experiments_run_side_by_side_on_a_shared_cache(tmp_path: Path) -> None:
    folder = clone(tmp_path / "project", "params.tiny.yaml")
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(COMMIT, cwd=folder, check=True)
    cache = tmp_path / "cache"
    _succeeds(folder, "cache", "dir", "--local", str(cache))
    for seed in (1, 2):
        _succeeds(folder, "exp", "run", "--queue", "--name", f"seed-{seed}", "-S", f"seed={seed}", "degrade")
    _succeeds(folder, "queue", "start", "-j", "2")
    for seed in (1, 2):
        _succeeds(folder, "queue", "logs", f"seed-{seed}", "--follow")
    assert {"seed-1", "seed-2"} <= set(_succeeds(folder, "exp", "list", "--name-only").split())
    assert any(cache.rglob("*.dir"))
    edit(folder, "seed: 0", "seed: 2")
    again = _succeeds(folder, "repro", "degrade")  # what the other folder made is taken from the shared cache
    assert "Running stage" not in again and "is cached - skipping run" in again
