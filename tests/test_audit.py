"""The audit of dependencies says what it could not find out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit"
GOOD: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
WEAK = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "zipp", "skip_reason": "Dependency not found on PyPI"}
NO_NETWORK = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='index.example'): Max retries exceeded"


@pytest.mark.parametrize(
    ("packages", "errors", "status", "said"),
    [
        ([GOOD], "", 0, "0 of 1 packages have known weaknesses"),
        ([GOOD, SKIPPED], "", 0, "not known to the database: zipp"),
        ([GOOD, WEAK, SKIPPED], "", 1, "pillow 1.0: CVE-1, fixed in 1.1"),
        ([SKIPPED, SKIPPED], "", 0, "NOT DONE: the database answers for none of 2 packages"),
        (None, NO_NETWORK, 0, "NOT DONE: the database of known weaknesses cannot be reached"),
        (None, "pip-audit: error: unrecognized arguments: --x", 2, "BROKEN: pip-audit ended with 1"),
    ],
    ids=["good", "some unknown", "weak", "all unknown", "offline", "broken"],
)
def test_what_the_audit_says(
    tmp_path: Path, packages: list[dict[str, Any]] | None, errors: str, status: int, said: str
) -> None:
    auditor = tmp_path / "auditor.py"
    text = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    auditor.write_text(f"import sys\nprint({text!r})\nprint({errors!r}, file=sys.stderr)\nsys.exit({status > 0})\n")
    own = {**os.environ, "AUDIT": f"{sys.executable} {auditor}"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == status and said in done.stdout
