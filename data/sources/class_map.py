"""Class maps: which classes of a source a dataset keeps, merges and drops, and in which order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORE_INDEX, DatasetError

Groups = Mapping[str, Sequence[str]]
Chosen = Groups | Sequence[str | Groups] | None


class ClassMap:
    """Maps the classes of a source to those of a dataset.

    Args:
        key: the section of params.yaml, for error messages, such as "data.coco".
        names: the source's class names.
        chosen: new name -> the source's names that it merges, in the order of the new indices; or a list of such
            mappings and of names that are kept; or None to keep all. Classes that are not listed are dropped. A new
            name may have an empty list, which reserves its index.
        rest: the class of all pixels of dropped classes; None ignores these pixels. Its index is 0, unless `chosen`
            lists it elsewhere. It has no boxes.
        surfaces: names of the source that are never objects, such as a background.

    Attributes:
        objects: names of the classes with boxes, in index order.
        pixels: names of the classes in masks, in index order.

    Raises:
        DatasetError: a name is listed twice or the source does not have it, or no class is kept.
    """

    def __init__(
        self, key: str, names: Sequence[str], chosen: Chosen, rest: str | None = None, surfaces: Sequence[str] = ()
    ) -> None:
        _check_names(key, names)
        groups = _groups(key, names if chosen is None else chosen)
        self._new = {name: new for new, group in groups.items() for name in group}
        _check_chosen(key, names, [name for group in groups.values() for name in group])
        only_surfaces = {new for new, group in groups.items() if group and set(group) <= set(surfaces)}
        self.objects = [new for new in groups if new != rest and new not in only_surfaces]
        self.pixels = list(groups) if rest is None or rest in groups else [rest, *groups]
        self.rest_index = IGNORE_INDEX if rest is None else self.pixels.index(rest)
        if not self.objects and not self.pixels:
            raise DatasetError(f"{key}.map: no class is kept. List at least one class of the source")

    def object(self, name: str) -> int | None:
        """The index in `objects` of a class of the source; None if it is dropped."""
        new = self._new.get(name)
        return self.objects.index(new) if new in self.objects else None

    def table(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Lookup table (256,) uint8 from indices of a source's masks, in the order of `names`, to those in `pixels`."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        for index, name in enumerate(names):
            table[index] = self.pixels.index(self._new[name]) if name in self._new else self.rest_index
        return table

    def pixel_of_object(self, index: int) -> int:
        """The index in `pixels` of the class objects[index]."""
        return self.pixels.index(self.objects[index])


def _groups(key: str, chosen: Groups | Sequence[str | Groups]) -> Groups:
    groups: dict[str, Sequence[str]] = {}
    for entry in [chosen] if isinstance(chosen, Mapping) else chosen:
        for new, old in (entry if isinstance(entry, Mapping) else {entry: [entry]}).items():
            if new in groups:
                raise DatasetError(f"{key}.map: {new} is listed twice. Remove one entry")
            groups[new] = old
    return groups


def _check_names(key: str, names: Sequence[str]) -> None:
    strange = [name for name in names if any(category(letter) in ("Cc", "Cs") for letter in name)]
    if strange:
        raise DatasetError(
            f"{key}: the source has a class name with control characters, {strange[0][:60]!r}. Rename the class"
        )
    twins = sorted(name for name, count in Counter(names).items() if count > 1)
    if twins:
        raise DatasetError(f"{key}: the source has several classes named {', '.join(twins)}. Rename them")


def _check_chosen(key: str, names: Sequence[str], listed: Sequence[str]) -> None:
    unknown = [name for name in listed if name not in names]
    if unknown:
        raise DatasetError(f"{key}.map: the source has no class {', '.join(unknown)}. Choose from {', '.join(names)}")
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise DatasetError(f"{key}.map: {', '.join(twice)} is listed twice. Remove one entry")
