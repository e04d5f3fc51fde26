"""A page from a template of templates/: one file that needs no other, with what strangers wrote made harmless.

Every value a template shows is escaped; style and script stand in the page itself, whose policy allows it nothing from
elsewhere.
"""

import importlib.util
import math
from pathlib import Path

from minbert.files import write_text
from minbert.report.frame import short

TEMPLATES = Path(__file__).parent / "templates"
MISSING = "it needs the package jinja2 (pip install jinja2)"


def can_render():
    """Whether jinja2, which is no part of what training needs, is there."""
    return importlib.util.find_spec("jinja2") is not None


def write(path, template, **values):
    """Render a template into the file at `path`. Raises LookupError where a value lacks what the template shows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError  # an extra

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "short": short, "percent": percent}
    try:
        text = environment.get_template(template).render(**values)
    except UndefinedError as error:
        raise LookupError(str(error)) from None
    write_text(path, text)


def number(value):
    """A figure as a reader wants it: three places, or more where it is small; whole ones with their commas."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 0.001 else f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.1f}"


def percent(share):
    return f"{share:.0%}"
