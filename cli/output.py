"""What a command prints: a table for a person, JSON for a program."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def emit(document: Any, *, as_json: bool, table: Table | str | None = None) -> None:
    """Print `document` as JSON, or what a person would rather read."""
    if as_json or table is None:
        click.echo(json.dumps(document, indent=2, ensure_ascii=True))
    elif isinstance(table, str):
        click.echo(table)
    else:
        Console(width=None if Console().is_terminal else 120).print(table)


def table_of(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = ""
) -> Table:
    """Return rows as a table; cells are data and never markup."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table


def safe(cell: object) -> str:
    r"""Return `cell` as text without control characters, for they drive terminals.

    Examples
    --------
    >>> safe("a\x1b[31mb"), safe(None)
    ('a\\x1b[31mb', '')
    """
    text = "" if cell is None else str(cell)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def pairs(document: Mapping[str, object]) -> Table:
    """Return a mapping as a table of two columns."""
    return table_of(["", ""], [*document.items()])
