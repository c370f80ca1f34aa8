"""Writes what a DAG found as a report: in Markdown, and as a page of HTML that needs nothing else."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

_STYLE = (
    "body{font:15px system-ui;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc}"
)


_COLUMNS = {
    "checks": ("Checks", ("check", "found", "allowed", "ok")),
    "sold": ("What was sold", ("product", "sales", "pieces", "amount")),
    "sinks": ("Sinks", ("sink", "state", "rows", "behind", "newest_file_age")),
}
"""Each table: its title and its columns, whose order an XCom does not keep."""


def tables(findings: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the tables of the report, each with its title."""
    return [
        (title, [{column: _shown(row[column]) for column in columns} for row in findings[name]])
        for name, (title, columns) in _COLUMNS.items()
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return "-" if value is None else str(value)


def as_markdown(title: str, findings: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"# {title}", "", f"Run {findings['run']}, {findings['at']}.", ""]
    for name, rows in tables(findings):
        lines += [f"## {name}", ""]
        if rows:
            lines += [f"| {' | '.join(rows[0])} |", f"|{' --- |' * len(rows[0])}"]
        lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row.values())} |" for row in rows]
        lines += ["", *([] if rows else ["None.", ""])]
    return "\n".join(lines)


def as_html(title: str, findings: dict[str, Any]) -> str:
    """Return the report as a page that needs nothing else."""
    parts = [f"<h1>{html.escape(title)}</h1><p>Run {html.escape(findings['run'])}, {html.escape(findings['at'])}.</p>"]
    for name, rows in tables(findings):
        head = "".join(f"<th>{html.escape(key)}</th>" for key in (rows[0] if rows else ()))
        cells = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row.values()) for row in rows]
        body = "".join(f"<tr>{row}</tr>" for row in cells) or "<tr><td>None.</td></tr>"
        parts.append(f"<h2>{html.escape(name)}</h2><table><tr>{head}</tr>{body}</table>")
    page = f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{''.join(parts)}"
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{page}</html>\n'


def write(path: Path, text: str) -> str:
    """Write a file that appears whole; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)
    return str(path)
