"""The page of a report: one HTML file that needs no network, follows the reader's colours and fits a phone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tritonllm.bench import charts

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --dim: #57606a; --line: #d8dee4; --page: #fff; --alert: #b3261e;
  --c0: #0b62c4; --c1: #b35900; --c2: #0a7d4f; --c3: #8a3ab9; --c4: #c2185b; --c5: #00707a;
  --c6: #7a6200; --c7: #5c6670; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9da7b3; --line: #30363d; --page: #0d1117;
  --alert: #ff8a80; --c0: #6cb0ff; --c1: #f0a24a; --c2: #4cc38a; --c3: #c893f0; --c4: #ff85b3; --c5: #4dd0e1;
  --c6: #d9c04a; --c7: #a8b3bf; } }
body { margin: 0 auto; max-width: 1240px; padding: 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } p { max-width: 75ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--dim); } dd { margin: 0;
  overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } figure > svg { width: 100%; height: auto; }
figure ul { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0; padding: 0; list-style: none; color: var(--dim);
  font-size: .85rem; } figure li svg { margin-right: .4rem; }
text { fill: var(--dim); font-size: 12px; } @media (max-width: 600px) { text { font-size: 18px; } } .marked { fill: var(--alert); font-weight: 600; }
.grid { stroke: var(--line); } path { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }
.mark { fill: none; stroke: var(--alert); stroke-width: 2; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; font-size: .9rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--dim); font-weight: 600; }
""" + "".join(
    f"path.c{n} {{ stroke: var(--c{n}); }} circle.c{n} {{ fill: var(--c{n}); }}\n"
    for n in range(charts.COLOURS)
)


def to_html(title: str, settings: Mapping[str, str], body: str) -> str:
    """The page.

    Args:
        title: of the page, as text.
        settings: listed below it, as text.
        body: HTML below these.
    """
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in settings.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><dl>{listed}</dl>{body}</main></body></html>\n"
    )


def table(cells: Sequence[Sequence[str]], label: str) -> str:
    """A table, which scrolls by itself where it is too wide.

    Args:
        cells: texts; the first row is the heading.
        label: what it is, for a screen reader.
    """
    head, *rows = cells
    heading = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">'
        f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></div>"
    )
