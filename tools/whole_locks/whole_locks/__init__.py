"""Makes DVC write `dvc.lock` and `.dvc/tmp/rwlock` whole or not at all.

DVC 3.67 empties these files and then fills them, `dvc.lock` after every stage and for a noticeable part of a second.
A SIGKILL in between leaves half a file, and every later `dvc repro` refuses to start until somebody removes it.
DVC has no setting for that and no place for a plug-in, so its two writing functions are wrapped when it is imported.
Nothing else of DVC changes.

Python runs `watch_imports` whenever it starts in this environment, so this module imports nothing but `sys`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own would have to be imported
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

WRITERS = {"dvc.utils.serialize._common": "_dump_data", "dvc.rwlock": "_edit_rwlock"}  # module -> its function


class _Watching:
    """Finds the modules in WRITERS, and no other."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in WRITERS:
            return None
        from whole_locks.wrapping import wrapped_spec

        return wrapped_spec(name, WRITERS[name], path, target)


def watch_imports() -> None:
    """Wrap DVC's writing functions as soon as they are imported."""
    if _Watching not in sys.meta_path:
        sys.meta_path.insert(0, _Watching)
