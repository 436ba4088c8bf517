"""HTML pages from Jinja templates: one file each that needs nothing else.

A page's template extends `base.html`, which brings the style sheet `page.css`, and imports the macros of `parts.html`.
Whatever is not `Markup` is escaped.
"""

import base64
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4"}


def render_page(template: Path, **values: object) -> str:
    """The page of a template; a value that it names and does not get is an error."""
    return _environment(template.parent).get_template(template.name).render(values)


def data_url(content: bytes | Path, ending: str = "") -> str:
    """A picture or video as an address that holds it. ending: of bytes, as in `.jpg`; a file has its own."""
    if isinstance(content, Path):
        content, ending = content.read_bytes(), content.suffix
    return f"data:{TYPES[ending.lower()]};base64,{base64.b64encode(content).decode()}"


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["data_url"] = data_url
    return environment
