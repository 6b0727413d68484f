"""A report as one HTML file that opens by a double click and needs no network."""

import base64
import hashlib
from pathlib import Path

from pipeline.reporting.document import Document

HERE = Path(__file__).parent


def render(document: Document) -> str:
    """report.html: the template and the style sheet in this folder decide how each part looks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = (HERE / "page.js").read_text()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = data_uri
    return environment.get_template("page.html.jinja").render(
        document=document,
        style=Markup((HERE / "page.css").read_text()),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a data URI: the page holds them itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
