"""The events and payloads in a table, whatever the layout of its segment.

`data` is JSON text, or a struct with a column for each field; where a struct would
change a payload, `raw_data` holds it as JSON text.
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from retrodict.envelope import StampedEvent


def events_of(event_type: str, table: Any) -> Iterator[StampedEvent]:
    """Yield the event of each row of an Arrow table of events of one type."""
    names = [field.name for field in fields(StampedEvent)]
    own = {
        name: table[name].to_pylist() for name in names if name not in {"type", "data"}
    }
    own["type"] = [event_type] * table.num_rows
    own["tags"] = [tuple(tags) for tags in own["tags"]]
    own["data"] = [*payloads(table)]
    return map(StampedEvent, *(own[name] for name in names))


def payloads(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the payload of each row of an Arrow table of events, shape (n,)."""
    names = table.schema.names
    raw = table["raw_data"].to_pylist() if "raw_data" in names else None
    if "data" not in names:
        return map(json.loads, raw or ())
    if str(table.schema.field("data").type) == "string":
        return map(json.loads, table["data"].to_pylist())
    typed = table["data"].combine_chunks()
    fields = [field.name for field in typed.type]
    children = [typed.field(name).to_pylist() for name in fields]
    return (
        dict(zip(fields, values, strict=True)) if text is None else json.loads(text)
        for text, values in zip(
            raw or [None] * table.num_rows, zip(*children, strict=True), strict=True
        )
    )
