"""Event logs to measure with: readings of a fleet, in the columns of the segments."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pipelines.sensor_anomaly.contract import Reading
from retrodict.contracts import Event
from retrodict.derived_columns import DERIVED
from retrodict.envelope import StampedEvent
from retrodict_aws.segments import events_schema_of

START_US: Final = 1_767_614_400_000_000
DELAY_US: Final = 350_000
"""How long after it happened an event arrives."""


def event_table(
    key: NDArray[np.int64],
    time_us: NDArray[np.int64],
    number: NDArray[np.int64],
    *,
    seed: int = 1,
    event: type[Event] = Reading,
) -> pa.Table:
    """Return readings of typed, plain events, as `encode_table` writes them.

    Parameters
    ----------
    key
        Number of the sensor of each event, shape (n,).
    number
        Its place in the order of knowing, shape (n,).
    event
        A contract with `sensor_id` and `value`; other fields are null.
    """
    n = len(key)
    schema = events_schema_of(event.contract())
    dice = np.random.default_rng(seed)
    value = np.round(20 + 5 * dice.standard_normal(n), 2)
    sensors = pa.array([f"s-{k:04}" for k in range(int(key.max(initial=0)) + 1)])
    names = sensors.take(pa.array(key))
    typed = {"sensor_id": names, "value": pa.array(value)}
    struct = schema.field("data").type
    numbers = pc.cast(pa.array(number), pa.string())
    hexadecimal = pa.py_buffer(dice.bytes(32 * n).hex().encode())
    ends = pa.py_buffer(np.arange(n + 1, dtype=np.int32) * 64)
    columns = {
        "key": names,
        "source": pa.array(["urn:fleet"]).take(pa.array(np.zeros(n, np.int64))),
        "id": numbers,
        "schema_version": pa.array(np.ones(n, np.int32)),
        "time_us": pa.array(time_us),
        "observed_at_us": pa.array(time_us + DELAY_US),
        "position": pc.binary_join_element_wise(
            "000000000000", pc.utf8_lpad(numbers, 56, "0"), "-"
        ),
        "late": pa.array(np.zeros(n, np.bool_)),
        "tags": pa.array([()] * n, pa.list_(pa.string())),
        "digest": pa.StringArray.from_buffers(n, ends, hexadecimal),
        "data": pa.StructArray.from_arrays(
            [typed.get(field.name, pa.nulls(n, field.type)) for field in struct],
            fields=[*struct],
        ),
    }
    empty = {name: pa.nulls(n, pa.string()) for name in schema.names}
    return pa.table([(empty | columns)[name] for name in schema.names], schema=schema)


def events_of(table: pa.Table) -> list[StampedEvent]:
    """Return the rows of a table of readings as events."""
    others = {"raw_data", *(field.name for field in DERIVED)}
    names = [name for name in table.column_names if name not in others]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    own = (dict(zip(names, row, strict=True)) for row in rows)
    return [
        StampedEvent(**{**row, "tags": ()}, type=Reading.contract().type) for row in own
    ]
