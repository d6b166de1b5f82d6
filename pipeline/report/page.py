"""A page as HTML: everything in one text, no scripts, nothing fetched, all texts escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline.report.blocks import Page, Table
from pipeline.report.folder import MARK

_environment = Environment(
    loader=PackageLoader("pipeline.report", "."),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["longest_word"] = lambda text: max(map(len, text.split()), default=0)


def render(page: Page) -> str:
    """The whole file. Raises ValueError where a table's row has other than the columns it announces."""
    for block in [*page.blocks, *(block for section in page.sections for block in section.blocks)]:
        if isinstance(block, Table) and any(len(row) != len(block.columns) for row in block.rows):
            raise ValueError(f"table {block.caption!r}: expected {len(block.columns)} cells in each row")
    html = _environment.get_template("page.html").render(page=page, mark=MARK)
    # What a text brought along that UTF-8 cannot hold must not cost the page.
    return html.encode("utf-8", "replace").decode("utf-8")
