"""What results come from, in a few digits: the commit of the code, digests of data. Not a stage."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path


@cache
def data_digest(folder: Path) -> str:
    """A digest of the names and contents of all files below a folder, whatever their order on disk."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def git_commit() -> str:
    """The commit, with "-dirty" where files differ from it; empty outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()
