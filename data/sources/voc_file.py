"""Pascal VOC's XML files: one image's size, file name and objects."""

import codecs
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from .objects import Box, LabelError, fitted_box

ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*encoding=["']([\w.-]+)["']""")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """The XML file of one image; `size` is its (width, height) in pixels, None if it has none."""

    file: Path
    size: tuple[int, int] | None
    objects: tuple[ElementTree.Element, ...]
    image_name: str = ""


def read_annotation(file: Path) -> Annotation:
    """Read the XML file of one image.

    Raises:
        LabelError: it is not XML in UTF-8 or in the encoding that it declares, or has a document type.
    """
    try:
        content = file.read_bytes()
        declared = ENCODING.match(content)
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf_16 else declared[1].decode() if declared else "utf-8")
        text = text.removeprefix("\ufeff")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise LabelError("unreadable label: XML with a document type is refused")
        # The parser reads the text that was checked, whatever encoding the file declares.
        root = ElementTree.fromstring(text.encode(), parser=ElementTree.XMLParser(encoding="utf-8"))
    except (OSError, LookupError, UnicodeError, ElementTree.ParseError) as error:
        raise LabelError(f"unreadable label: {error}") from error
    name = (root.findtext("filename") or "").strip()
    return Annotation(file, _size(root), tuple(root.findall("object")), name)


def object_box(entry: ElementTree.Element, shape: tuple[int, int]) -> Box:
    """The box of an object, or of its polygon, (left, top, right, bottom) in pixels counted from 0.

    Raises:
        LabelError: there is none, or it does not fit an image of (height, width) `shape`.
    """
    texts = [entry.findtext(f"bndbox/{corner}") for corner in CORNERS]
    if texts == [None] * len(CORNERS):
        left, top, right, bottom = _polygon_box(entry)
    else:
        left, top, right, bottom = _numbers(texts, f"malformed box: {', '.join(CORNERS)} are {texts}")
    return fitted_box((left - 1, top - 1, right, bottom), shape)


def is_difficult(entry: ElementTree.Element) -> bool:
    """Whether an object is marked as difficult."""
    return (entry.findtext("difficult") or "0").strip().lower() in ("1", "true", "yes")


def _polygon_box(entry: ElementTree.Element) -> Box:
    """Corners that enclose a polygon of <pt><x>, <y> or of <x1>, <y1>, <x2>, ..."""
    polygon = entry.find("polygon")
    values = [] if polygon is None else [(part.tag[:1], part.text) for part in polygon.iter() if part is not polygon]
    places = {axis: [text for name, text in values if name == axis and text and text.strip()] for axis in "xy"}
    text = f"malformed box: the object has neither bndbox with {', '.join(CORNERS)} nor a polygon"
    across, down = _numbers(places["x"], text), _numbers(places["y"], text)
    if not across or len(across) != len(down):
        raise LabelError(text)
    return min(across), min(down), max(across), max(down)


def _numbers(texts: "list[str | None] | list[str]", text: str) -> list[float]:
    try:
        values = [float(word) for word in texts if word is not None]
    except ValueError as error:
        raise LabelError(text) from error
    if len(values) != len(texts):
        raise LabelError(text)
    return values


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width and height else None  # some tools write 0 for an unknown size
