"""The compiled fold: its library, and which definitions it can carry.

``layers/core/kernel/fold.c`` folds columns where `retrodict.state` folds events, and
``online.c`` a batch into the bytes of states; all give the same bits. ``columns.c``
reads columns from the buffers of Arrow, ``validate.c`` the records of the ingest
stream. `python -m infra.build_kernel` compiles them for this machine and for Lambda.
Where there is no library for a platform, `library` is None and everything is computed
by the plain fold, with the same results and more time.
"""

import ctypes
import platform
import sys
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from retrodict import codec
from retrodict.contracts import FieldRef
from retrodict.errors import KernelNotLoadedError
from retrodict.expressions import Expression
from retrodict.features import FeatureSet
from retrodict.leaves import (
    BOUNDED,
    LAGGED,
    Calendar,
    Category,
    Elapsed,
    Rate,
    Share,
    Statistic,
)
from retrodict.views import place_of
from retrodict.windows import (
    HOUR_US,
    LastDuration,
    LastEvents,
    LastPanes,
    SameSlot,
    Window,
)

FOLDER: Final = Path(__file__).with_name("_kernel")

_STATISTICS: Final = {
    "count": 0, "sum": 1, "mean": 2, "std": 3, "min": 4, "max": 5, "first": 6,
    "last": 7, "rate": 12, "difference": 13, "ratio": 14,
}  # fmt: skip
_SHARES: Final = {"<": 8, "<=": 9, ">": 10, ">=": 11}
_NEWEST: Final = 15
_ELAPSED: Final = 16
_PARTS: Final = {"hour_of_day": 17, "day_of_week": 18}
_SUMMED: Final = frozenset({"sum", "mean"})

_TEXTS: Final = (c_void_p, c_void_p)


class LeafStruct(ctypes.Structure):
    """`Leaf` of ``fold.c``."""

    _fields_ = (
        ("statistic", c_int32),
        ("view", c_int32),
        ("column", c_int32),
        ("lag", c_int32),
        ("number", c_double),
    )


class ViewStruct(ctypes.Structure):
    """`View` of ``fold.c``."""

    _fields_ = (
        ("window", c_int32),
        ("column", c_int32),
        ("size", c_int64),
        ("every_us", c_int64),
        ("at_least", c_int64),
        ("sums", c_int32),
        ("bounds", c_int32),
    )


class FoldStruct(ctypes.Structure):
    """`Fold` of ``fold.c``."""

    _fields_ = (
        ("keys", c_int64), ("columns", c_int64), ("leaves", c_int64),
        ("views", c_int64),
        ("key_start", c_void_p), ("time_us", c_void_p), ("identity", c_void_p),
        ("check", c_void_p), ("late", c_void_p), ("value", POINTER(c_void_p)),
        ("leaf", POINTER(LeafStruct)), ("view", POINTER(ViewStruct)),
        ("kept_us", c_int64), ("reach_us", c_int64), ("depth", c_int64),
        ("most_entries", c_int64),
        ("wanted", c_void_p), ("asked_start", c_void_p), ("asked_us", c_void_p),
        ("asked_known", c_void_p),
        ("outcome", c_void_p), ("served", c_void_p), ("row", c_void_p),
        ("asked_row", c_void_p), ("last_row", c_void_p),
        ("events", c_int64), ("asked", c_int64),
        ("order", c_void_p), ("applied", c_void_p), ("held_from", c_void_p),
        ("is_beyond", c_void_p),
    )  # fmt: skip


class GridStruct(ctypes.Structure):
    """`Grid` of ``online.c``."""

    _fields_ = (
        ("every_us", c_int64),
        ("reach", c_int64),
        ("most_bytes", c_int64),
        ("column", c_int32),
        ("flags", c_int32),
    )


class OnlineStruct(ctypes.Structure):
    """`Online` of ``online.c``."""

    _fields_ = (
        ("keys", c_int64), ("columns", c_int64), ("leaves", c_int64),
        ("views", c_int64), ("grids", c_int64),
        ("key_start", c_void_p), ("time_us", c_void_p), ("identity", c_void_p),
        ("check", c_void_p), ("late", c_char_p), ("value", POINTER(c_void_p)),
        ("position_at", c_void_p), ("position", c_char_p),
        ("state_at", c_void_p), ("state", c_char_p), ("head", c_char_p),
        ("leaf", POINTER(LeafStruct)), ("view", POINTER(ViewStruct)),
        ("grid", POINTER(GridStruct)),
        ("kept_us", c_int64), ("reach_us", c_int64), ("depth", c_int64),
        ("room_bytes", c_int64), ("entry_bytes", c_int64),
        ("outcome", c_void_p), ("became", c_void_p), ("applied", c_void_p),
        ("newest_us", c_void_p), ("row", c_void_p), ("out_at", c_void_p),
        ("out", c_void_p),
    )  # fmt: skip


_FUNCTIONS: Final[tuple[tuple[str, tuple[Any, ...], type | None], ...]] = (
    ("retrodict_fold", (POINTER(FoldStruct),), ctypes.c_int),
    ("retrodict_online", (POINTER(OnlineStruct),), ctypes.c_int),
    ("retrodict_free", (POINTER(OnlineStruct),), None),
    (
        "retrodict_identities",
        (c_int64, *_TEXTS, *_TEXTS, c_void_p, ctypes.c_int),
        ctypes.c_int,
    ),
    ("retrodict_checks", (c_int64, *_TEXTS, c_void_p), c_int64),
    (
        "retrodict_edges",
        (c_int64, *_TEXTS, *_TEXTS, c_void_p, c_void_p, c_void_p),
        c_int64,
    ),
    ("retrodict_runs", (c_int64, c_void_p, c_void_p, c_int64, c_void_p), c_int64),
    ("retrodict_taken", (c_int64, c_void_p, c_int64, c_void_p, c_void_p), c_int64),
    ("retrodict_take", (c_int64, c_void_p, *_TEXTS, c_void_p, c_void_p), None),
    ("retrodict_join", (c_int64, c_void_p, c_void_p, c_void_p), None),
    (
        "retrodict_row_groups",
        (c_char_p, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p),
        c_int64,
    ),
    ("retrodict_in_order", (c_int64, c_void_p, *_TEXTS, c_void_p), ctypes.c_int),
    (
        "retrodict_sort",
        (c_int64, c_int64, c_void_p, *_TEXTS, c_void_p, c_void_p),
        ctypes.c_int,
    ),
    ("retrodict_has_sha256", (), ctypes.c_int),
    ("retrodict_validate", (c_void_p,), ctypes.c_int),
)
"""What each function of the library takes and returns."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The leaves of a definition as the compiled fold reads them.

    Attributes
    ----------
    leaves, views
        Arrays of `LeafStruct` and `ViewStruct`.
    """

    leaves: ctypes.Array[LeafStruct]
    views: ctypes.Array[ViewStruct]


def library_path() -> Path:
    """Return where the library of this platform lies, if it was built."""
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    machine = platform.machine().lower().replace("arm64", "aarch64")
    machine = machine.replace("amd64", "x86_64")
    return FOLDER / f"fold-{sys.platform}-{machine}.{suffix}"


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled fold of this platform, or None where there is none.

    Raises
    ------
    KernelNotLoadedError
        There is one, but it is of another machine or of older code.
    """
    path = library_path()
    return loaded(path) if path.exists() else None


def loaded(path: Path) -> ctypes.CDLL:
    """Load a compiled fold.

    Raises
    ------
    KernelNotLoadedError
        It is not there, of another machine, damaged, or of older code.
    """
    try:
        found = ctypes.CDLL(str(path))
        for name, arguments, result in _FUNCTIONS:
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, result
    except (OSError, AttributeError) as error:
        raise KernelNotLoadedError(
            f"{path}: expected the compiled fold of {sys.platform} on "
            f"{platform.machine()}, made from this code, got {error}: run `python -m "
            "infra.build_kernel`, or `make layers` before a deployment"
        ) from error
    return found


@cache
def has_sha256() -> int:
    """Return 1 if this processor has instructions for SHA-256, 0 if not, once asked."""
    found = library()
    return 0 if found is None else int(found.retrodict_has_sha256())


def plan_of(definition: FeatureSet) -> Plan | None:
    """Return how the compiled fold computes a definition; None where it cannot.

    It knows every word but `quantile`, `distinct`, `decayed_mean`, `decayed_std` and
    functions marked with `statistic`.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> plan_of(Sensor) is not None
    True
    """
    views = _Views(definition)
    leaves: list[LeafStruct] = []
    for leaf in definition.program.leaves:
        found = _leaf(leaf, definition, views)
        if found is None:
            return None
        leaves.append(found)
    return Plan(
        (LeafStruct * len(leaves))(*leaves), (ViewStruct * len(views.all))(*views.all)
    )


class _Views:
    """The distinct windows over columns, one for all leaves that read it."""

    def __init__(self, definition: FeatureSet) -> None:
        self._columns = definition.columns
        self._places: dict[tuple[str, int], int] = {}
        self.all: list[ViewStruct] = []

    def place(self, leaf: Statistic) -> int:
        column = place_of(leaf.field, self._columns)
        name = leaf.window.describe(), column
        if name not in self._places:
            self._places[name] = len(self.all)
            self.all.append(_view(leaf.window, column))
        place = self._places[name]
        view = self.all[place]
        view.sums = max(view.sums, 2 * (leaf.name == "std"), leaf.name in _SUMMED)
        view.bounds = view.bounds or leaf.name in ("min", "max")
        return place


def _view(window: Window, column: int) -> ViewStruct:
    match window:
        case LastEvents(count):
            return ViewStruct(0, column, count, 1, 0, 0, 0)
        case LastDuration(width_us):
            return ViewStruct(1, column, width_us, 1, 0, 0, 0)
        case LastPanes(count, every_us):
            return ViewStruct(2, column, count, every_us, 1, 0, 0)
        case SameSlot(count, period_hours, at_least):
            return ViewStruct(3, column, count, period_hours * HOUR_US, at_least, 0, 0)


def _leaf(leaf: Expression, definition: FeatureSet, views: _Views) -> LeafStruct | None:
    """Return a leaf as the compiled fold reads it; None where it cannot."""
    columns = definition.columns
    match leaf:
        case Elapsed():
            return LeafStruct(_ELAPSED, -1, -1, 0, 0.0)
        case Calendar():
            return LeafStruct(_PARTS[leaf.part], -1, -1, 0, 0.0)
        case FieldRef() | Category():
            return LeafStruct(_NEWEST, -1, place_of(leaf, columns), 0, 0.0)
        case Statistic(name=name, window=LastEvents(count)) if name in LAGGED:
            column = place_of(leaf.field, columns)
            return LeafStruct(_STATISTICS[name], -1, column, count, 0.0)
        case Statistic() if _is_compiled(leaf):
            code, number = _code(leaf)
            return LeafStruct(code, views.place(leaf), -1, 0, number)
    return None


def _is_compiled(leaf: Statistic) -> bool:
    if isinstance(leaf, Share):  # a bound that no double holds is compared exactly
        return float(leaf.bound) == leaf.bound
    if isinstance(leaf.window, SameSlot) and leaf.name in BOUNDED:
        return False
    return type(leaf) in (Statistic, Rate) and leaf.name in _STATISTICS


def _code(leaf: Statistic) -> tuple[int, float]:
    if isinstance(leaf, Share):
        return _SHARES[leaf.operator], float(leaf.bound)
    width_s = leaf.width_us / 1_000_000 if isinstance(leaf, Rate) else 0.0
    return _STATISTICS[leaf.name], width_s


def grids_of(definition: FeatureSet) -> ctypes.Array[GridStruct]:
    """Return what the panes of a definition keep, in order, shape (n_grids,)."""
    grids = definition.grids.items()
    return (GridStruct * len(grids))(
        *(
            GridStruct(
                grid.every_us,
                keeping.reach,
                keeping.most_bytes(),
                grid.column,
                codec.flags_of(squares=keeping.squares, bounds=keeping.bounds),
            )
            for grid, keeping in grids
        )
    )


def addresses(arrays: Sequence[int]) -> ctypes.Array[c_void_p]:
    """Return pointers as one array, shape (n,)."""
    return (c_void_p * max(1, len(arrays)))(*arrays)
