"""Classes by name: which of a source's classes a dataset keeps, merges and drops, and in which order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORE_INDEX, DatasetError

Groups = Mapping[str, Sequence[str]]
Chosen = Groups | Sequence[str | Groups] | None


class ClassMap:
    """From the classes of a source to those of a dataset.

    Args:
        key: the section of the parameters, for messages, such as "data.coco".
        names: the source's class names.
        chosen: new name -> the source's names that it stands for, in the order of the new indices; or a list of
            such mappings and of names that are kept as they are; or None: all of them. What is not listed is
            dropped. A new name may stand for nothing, to keep its index free.
        rest: the class of all pixels that no listed class covers, or None: they are ignored. It comes first,
            unless `chosen` has it elsewhere. It never has boxes.
        surfaces: names of the source that are never objects, such as a background.

    Attributes:
        objects: the names of the classes that have boxes.
        pixels: the names of the classes of a mask.

    Raises:
        DatasetError: a name that the source does not have, or that is listed twice; or no class at all.
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
            raise DatasetError(f"{key}.map: no class is kept")

    def object(self, name: str) -> int | None:
        """The index among the objects of a class of the source; None where it is dropped."""
        new = self._new.get(name)
        return self.objects.index(new) if new in self.objects else None

    def table(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """(256,) uint8: the new index of the pixels whose index in a mask of the source means names[index]."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        for index, name in enumerate(names):
            table[index] = self.pixels.index(self._new[name]) if name in self._new else self.rest_index
        return table

    def pixel_of_object(self, index: int) -> int:
        """The index in a mask of a class of objects."""
        return self.pixels.index(self.objects[index])


def _groups(key: str, chosen: Groups | Sequence[str | Groups]) -> Groups:
    groups: dict[str, Sequence[str]] = {}
    for entry in [chosen] if isinstance(chosen, Mapping) else chosen:
        for new, old in (entry if isinstance(entry, Mapping) else {entry: [entry]}).items():
            if new in groups:
                raise DatasetError(f"{key}.map: {new} listed twice")
            groups[new] = old
    return groups


def _check_names(key: str, names: Sequence[str]) -> None:
    strange = [name for name in names if any(category(letter) in ("Cc", "Cs") for letter in name)]
    if strange:
        raise DatasetError(f"{key}: the source has a class name with control characters: {strange[0][:60]!r}")
    twins = sorted(name for name, count in Counter(names).items() if count > 1)
    if twins:
        raise DatasetError(f"{key}: the source has several classes of the name {', '.join(twins)}")


def _check_chosen(key: str, names: Sequence[str], listed: Sequence[str]) -> None:
    unknown = [name for name in listed if name not in names]
    if unknown:
        raise DatasetError(f"{key}.map: {', '.join(unknown)}: no such class in the source; it has {', '.join(names)}")
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise DatasetError(f"{key}.map: {', '.join(twice)} listed twice")
