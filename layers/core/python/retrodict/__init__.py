"""The pure core: contracts, validation, features and their state.

Nothing in here reads a clock, an environment variable, a file or a network, and
``tests/unit/test_architecture.py`` holds it to that.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrodict.envelope import StampedEvent
    from retrodict.features import FeatureSet
    from retrodict.point_in_time import Split
    from retrodict.ports import ColumnLog, EventLog


def training_set(  # noqa: PLR0913 - one argument a choice
    events: "ColumnLog | EventLog | Iterable[StampedEvent]",
    rows: Any,
    *,
    features: "FeatureSet | Sequence[FeatureSet]",
    corrected: bool = False,
    until_us: int | None = None,
    split: "Split | None" = None,
    to: str = "arrow",
) -> Any:
    """Return the features of rows (key, time) as they were known, for a notebook.

    Bitemporal and point-in-time: a row sees what happened at or before its time and
    was known at its position. See `retrodict.point_in_time.training_set`.

    Parameters
    ----------
    events
        The log, or events of it in any order, perhaps repeated. A log in columns,
        such as `S3EventLog` or a `FolderEventLog` of its Parquet, is read a part of
        the keys at a time and never held as a whole.
    rows
        Arrow table, pandas or Polars frame, or list of mappings with the columns
        ``key`` and ``time`` (with a time zone, or whole microseconds), perhaps
        ``position`` or ``known_at``, and any others, such as a label, shape (n,).
    features
        One feature set or several.
    corrected
        Let every row see all that is known in the end, late events included, where
        it would see what was known then.
    until_us
        Cut of the log: only events observed by then are looked at, microseconds.
    split
        Which rows train, validate and test.
    to
        ``arrow``, ``pandas`` or ``polars``.

    Returns
    -------
    pyarrow.Table, pandas.DataFrame or polars.DataFrame
        The rows in their order with one column a feature, null where it has no value.

    Raises
    ------
    TrainingRowsError
        The rows cannot be read, or ask for something else than is said here.

    Examples
    --------
    >>> import retrodict
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> rows = [{"key": "s-1", "time": 1_767_614_400_000_000, "label": True}]
    >>> retrodict.training_set([], rows, features=Sensor).column_names[:4]
    ['key', 'time', 'label', 'latest']
    """
    from retrodict import point_in_time  # noqa: PLC0415 - loads Arrow and numpy

    return point_in_time.training_set(
        events,
        rows,
        features=features,
        corrected=corrected,
        until_us=until_us,
        split=split,
        to=to,
    )
