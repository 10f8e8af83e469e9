"""Event logs to measure with: readings of a fleet, in the columns of the segments."""

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pipelines.sensor_anomaly.contract import Reading
from retrodict.envelope import StampedEvent
from retrodict_aws.segments import schema_of

START_US: Final = 1_767_614_400_000_000
DELAY_US: Final = 350_000
"""How long after it happened an event arrives."""


def event_table(
    key: NDArray[np.int64],
    time_us: NDArray[np.int64],
    number: NDArray[np.int64],
    seed: int = 1,
) -> pa.Table:
    """Return readings of typed, plain events as a segment holds them.

    Parameters
    ----------
    key
        Number of the sensor of each event, shape (n,).
    number
        Its place in the order of knowing, shape (n,).
    """
    n = len(key)
    schema = schema_of(Reading.contract())
    dice = np.random.default_rng(seed)
    value = np.round(20 + 5 * dice.standard_normal(n), 2)
    sensors = pa.array([f"s-{k:04}" for k in range(int(key.max(initial=0)) + 1)])
    names = sensors.take(pa.array(key))
    typed = {
        "sensor_id": names,
        "value": pa.array(value),
        "site": pa.nulls(n, pa.string()),
    }
    struct = schema.field("data").type
    numbers = number.tolist()
    columns = {
        "key": names,
        "source": pa.array(["urn:fleet"] * n),
        "id": pa.array(map(str, numbers)),
        "schema_version": pa.array(np.ones(n, np.int32)),
        "time_us": pa.array(time_us),
        "observed_at_us": pa.array(time_us + DELAY_US),
        "position": pa.array([f"000000000000-{k:056}" for k in numbers]),
        "late": pa.array(np.zeros(n, np.bool_)),
        "tags": pa.array([()] * n, pa.list_(pa.string())),
        "digest": pa.array([hashlib.sha256(b"%d" % k).hexdigest() for k in numbers]),
        "data": pa.StructArray.from_arrays(
            [typed[field.name] for field in struct], fields=[*struct]
        ),
    }
    empty = {name: pa.nulls(n, pa.string()) for name in schema.names}
    return pa.table([(empty | columns)[name] for name in schema.names], schema=schema)


def events_of(table: pa.Table) -> list[StampedEvent]:
    """Return the rows of a table of readings as events."""
    names = [name for name in table.column_names if name != "raw_data"]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    own = (dict(zip(names, row, strict=True)) for row in rows)
    return [
        StampedEvent(**{**row, "tags": ()}, type=Reading.contract().type) for row in own
    ]
