"""A training set as three Parquet files and a manifest, always the same bytes."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from retrodict.training_sets import JudgedRow, Row, TrainingSet

MANIFEST: Final = "manifest.json"
FIT: Final = "fit.parquet"
HELD_OUT: Final = "held_out.parquet"
JUDGING: Final = "judging.parquet"
_STAMPS: Final = ("key", "time_us", "position")


def to_files(found: TrainingSet) -> dict[str, bytes]:
    """Return the files of a training set by name."""
    manifest = json.dumps(found.manifest(), sort_keys=True, indent=1).encode()
    judged = _table([j.row for j in found.judging], found.features)
    judged = judged.append_column(
        "is_anomaly", pa.array([j.is_anomaly for j in found.judging], pa.bool_())
    ).append_column("basis", pa.array([j.basis for j in found.judging], pa.string()))
    return {
        MANIFEST: manifest,
        FIT: _parquet(_table(found.fit, found.features)),
        HELD_OUT: _parquet(_table(found.held_out, found.features)),
        JUDGING: _parquet(judged),
    }


def from_files(files: Mapping[str, bytes]) -> TrainingSet:
    """Read what `to_files` wrote.

    Examples
    --------
    >>> from retrodict.training_sets import Row
    >>> row = Row("s-1", 7, "p", (0.1, None))
    >>> found = TrainingSet("a", "d", ("x", "y"), 0, 5, 9, "p", (row,), (), ())
    >>> from_files(to_files(found)) == found
    True
    """
    manifest: dict[str, Any] = json.loads(files[MANIFEST])
    features = tuple(manifest["features"])
    judging = _read(files[JUDGING])
    rows = _rows(judging, features)
    return TrainingSet(
        pipeline=manifest["pipeline"],
        definition=manifest["definition"],
        features=features,
        from_us=manifest["from_us"],
        split_us=manifest["split_us"],
        until_us=manifest["until_us"],
        last_position=manifest["last_position"],
        fit=_rows(_read(files[FIT]), features),
        held_out=_rows(_read(files[HELD_OUT]), features),
        judging=tuple(
            JudgedRow(row, truth, basis)
            for row, truth, basis in zip(
                rows, judging["is_anomaly"], judging["basis"], strict=True
            )
        ),
    )


def _table(rows: Sequence[Row], features: Sequence[str]) -> pa.Table:
    columns = {
        "key": pa.array([r.key for r in rows], pa.string()),
        "time_us": pa.array([r.time_us for r in rows], pa.int64()),
        "position": pa.array([r.position for r in rows], pa.string()),
    }
    for place, name in enumerate(features):
        columns[name] = pa.array([r.values[place] for r in rows], pa.float64())
    return pa.table(columns)


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()


def _read(raw: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.ParquetFile(BytesIO(raw)).read().to_pydict()
    return found


def _rows(
    columns: Mapping[str, Sequence[Any]], features: Sequence[str]
) -> tuple[Row, ...]:
    values = zip(*(columns[name] for name in features), strict=True)
    stamps = zip(*(columns[name] for name in _STAMPS), strict=True)
    return tuple(
        Row(key, time_us, position, value)
        for (key, time_us, position), value in zip(stamps, values, strict=True)
    )
