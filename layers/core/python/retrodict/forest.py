"""An isolation forest as data: flat trees that any Python scores to the same bits.

A node is either a split, ``float32(row[feature]) <= threshold`` goes left, or a leaf
with the expected length of the path that ends there. The score of a row is
``2 ** (-sum(path lengths) / normaliser)``, summed tree by tree from the first to the
last, as scikit-learn does.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou (2008), "Isolation Forest", ICDM, section 3.
   doi:10.1109/ICDM.2008.17
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Self, TypeAlias

from retrodict.errors import ForestFormatError, UnequalForestError

KIND: Final = "isolation_forest"
LEAF: Final = -1
TOLERANCE: Final = 1e-12
"""How far a score may be from scikit-learn's.

Both sum the same path lengths in the same order, so only the logarithm of a leaf's
rows and the last power may be rounded differently, some 1e-16 each. A single wrong turn
in one of 1,000 trees moves a score by 1e-5 or so: between the two lies a wide gap.
"""

_FLOAT32_MAX: Final = (2 - 2**-23) * 2.0**127
_DOCUMENT: Final = {"kind", "n_features", "normaliser", "trees"}
_COLUMNS: Final = {"feature", "value", "left", "right"}

_Node: TypeAlias = tuple[int, float, Any, Any]
"""Feature, value, left and right node; a leaf's children are empty tuples."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree; every tuple has the shape (n_nodes,).

    Attributes
    ----------
    feature
        Column that a node splits on, `LEAF` for a leaf.
    value
        Threshold of a split, or path length of a leaf.
    left, right
        Children of a split, always behind their parent; 0 for a leaf.
    """

    feature: tuple[int, ...]
    value: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]


class _Columns(NamedTuple):
    """All trees in one, renumbered so that a right child follows its left sibling.

    A leaf is its own left child and nothing is greater than its threshold, so that
    rows which arrive early stay where they are. All but `roots` are (n_nodes,).
    """

    roots: list[tuple[int, int]]
    feature: list[int]
    threshold: list[float]
    left: list[int]
    length: list[float]


@dataclass(frozen=True)
class IsolationForest:
    """Trees and what their path lengths are compared with.

    Attributes
    ----------
    n_features
        Columns of a row.
    normaliser
        Number of trees times the average path length of an unsuccessful search in a
        tree of `max_samples` rows.

    Raises
    ------
    ForestFormatError
        A walk would leave a tree or never end, or a number is none.

    Examples
    --------
    >>> stump = Tree((0, LEAF, LEAF), (0.5, 1.0, 2.0), (1, 0, 0), (2, 0, 0))
    >>> forest = IsolationForest(1, 2.0, (stump,))
    >>> forest.score([0.0]), forest.score([1.0])
    (0.7071067811865476, 0.5)
    >>> IsolationForest.from_json(forest.to_json()) == forest
    True
    """

    n_features: int
    normaliser: float
    trees: tuple[Tree, ...]

    def __post_init__(self) -> None:
        """Refuse what could not be walked."""
        if not 0 < self.normaliser < math.inf or not self.trees or self.n_features < 1:
            raise ForestFormatError(
                "expected trees, features and a positive normaliser, got "
                f"{len(self.trees)}, {self.n_features} and {self.normaliser!r}"
            )
        for number, tree in enumerate(self.trees):
            problem = _problem(tree, self.n_features)
            if problem:
                raise ForestFormatError(f"tree {number}: {problem}")

    def score(self, row: Sequence[float]) -> float:
        """Return how anomalous `row` is, between 0 and 1; about 0.5 is ordinary.

        Parameters
        ----------
        row
            Finite doubles, shape (n_features,). What is beyond float32 counts as
            beyond every threshold.

        Raises
        ------
        ForestFormatError
            The row has another shape, or a value that is no finite number.
        """
        narrow = self._narrow(row)
        depth = 0.0
        for split, value, left, right in self._linked:
            # the fields of the node where the walk stands, unpacked once a step
            while left:
                split, value, left, right = (  # noqa: PLW2901
                    left if narrow[split] <= value else right
                )
            depth += value
        return self._score_of(depth)

    def scores(self, rows: Any) -> list[float]:
        """Return the score of every row, with the same bits as `score`.

        Parameters
        ----------
        rows
            Shape (n_samples, n_features): rows of numbers, or an array of the Python
            array API standard, such as numpy's, for which all rows take a step at once.

        Raises
        ------
        ForestFormatError
            The rows have another shape, or a value that is no finite number.
        """
        namespace = getattr(rows, "__array_namespace__", None)
        if namespace is None:
            return [self.score(row) for row in rows]
        return [self._score_of(depth) for depth in self._depths(rows, namespace())]

    def to_json(self) -> dict[str, Any]:
        """Return the forest as JSON can say it; doubles keep every bit."""
        return {
            "kind": KIND,
            "n_features": self.n_features,
            "normaliser": self.normaliser,
            "trees": [
                {
                    "feature": list(tree.feature),
                    "value": list(tree.value),
                    "left": list(tree.left),
                    "right": list(tree.right),
                }
                for tree in self.trees
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, and check that every walk ends.

        Raises
        ------
        ForestFormatError
            It is no forest, or a walk would leave it or never end.
        """
        try:
            if document["kind"] != KIND:
                raise ForestFormatError(f"expected {KIND!r}, got {document['kind']!r}")
            _check_names(document, _DOCUMENT)
            return cls(
                _whole(document["n_features"]),
                _real(document["normaliser"]),
                tuple(map(_tree, document["trees"])),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ForestFormatError(f"not an isolation forest: {error!r}") from error

    def _score_of(self, depth: float) -> float:
        return float(2.0 ** (-depth / self.normaliser))

    def _narrow(self, row: Sequence[float]) -> Sequence[float]:
        """Return the doubles nearest float32, as scikit-learn reads its rows."""
        if len(row) != self.n_features:
            raise ForestFormatError(
                f"expected a row of {self.n_features} features, got {len(row)}"
            )
        try:
            narrow = self._float32.unpack(self._float32.pack(*row))
        except (struct.error, OverflowError):
            narrow = tuple(map(_clipped, row))
        if not math.isfinite(sum(narrow)) and not all(map(math.isfinite, row)):
            raise ForestFormatError(f"expected finite numbers, got {list(row)!r}")
        return narrow

    def _depths(self, rows: Any, xp: Any) -> list[float]:
        """Return the sum of path lengths of every row, tree after tree."""
        if len(rows.shape) != 2 or rows.shape[1] != self.n_features:  # noqa: PLR2004
            raise ForestFormatError(
                f"expected rows of {self.n_features} features, got the shape "
                f"{tuple(rows.shape)}"
            )
        count = rows.shape[0]
        rows = xp.astype(rows, xp.float64)
        if not bool(xp.all(xp.isfinite(rows))):
            raise ForestFormatError("expected finite numbers in every row")
        far = xp.abs(rows) > _FLOAT32_MAX
        narrow = xp.astype(xp.where(far, 0.0, rows), xp.float32)
        beyond = xp.where(rows > 0, xp.asarray(math.inf), xp.asarray(-math.inf))
        cells = xp.reshape(xp.where(far, beyond, xp.astype(narrow, xp.float64)), (-1,))
        start = xp.arange(count) * self.n_features
        roots, *columns = self._columns
        feature, threshold, left, length = map(xp.asarray, columns)
        depths = xp.zeros(count)
        for root, steps in roots:
            node = xp.full(count, root)
            for _ in range(steps):
                found = xp.take(cells, xp.take(feature, node) + start)
                goes_right = found > xp.take(threshold, node)
                node = xp.take(left, node) + xp.astype(goes_right, node.dtype)
            depths += xp.take(length, node)
        summed: list[float] = depths.tolist()
        return summed

    @cached_property
    def _float32(self) -> struct.Struct:
        return struct.Struct(f"<{self.n_features}f")

    @cached_property
    def _linked(self) -> list[_Node]:
        """The root of every tree; a node holds its children."""
        roots = []
        for tree in self.trees:
            nodes: list[_Node] = [(LEAF, 0.0, (), ())] * len(tree.feature)
            for place in reversed(range(len(nodes))):
                split, value = tree.feature[place], tree.value[place]
                left, right = nodes[tree.left[place]], nodes[tree.right[place]]
                nodes[place] = (
                    (LEAF, value, (), ())
                    if split == LEAF
                    else (split, value, left, right)
                )
            roots.append(nodes[0])
        return roots

    @cached_property
    def _columns(self) -> _Columns:
        found = _Columns([], [], [], [], [])
        for tree in self.trees:
            first = len(found.feature)
            level, steps = [0], -1
            free = first + 1
            while level:
                below: list[int] = []
                for node in level:
                    is_leaf = tree.feature[node] == LEAF
                    found.feature.append(0 if is_leaf else tree.feature[node])
                    found.threshold.append(math.inf if is_leaf else tree.value[node])
                    found.left.append(len(found.left) if is_leaf else free)
                    found.length.append(tree.value[node] if is_leaf else 0.0)
                    if not is_leaf:
                        below += [tree.left[node], tree.right[node]]
                        free += 2
                level, steps = below, steps + 1
            found.roots.append((first, steps))
        return found


def _clipped(value: float) -> float:
    """Return the double nearest float32 of `value`, infinity where there is none."""
    try:
        narrow: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    except struct.error as error:
        raise ForestFormatError(f"expected a number, got {value!r}") from error
    return narrow


def _check_names(document: Mapping[str, Any], names: set[str]) -> None:
    if set(document) != names:
        raise ForestFormatError(
            f"expected the members {sorted(names)}, got {sorted(document)}"
        )


def _tree(document: Mapping[str, Any]) -> Tree:
    _check_names(document, _COLUMNS)
    return Tree(
        tuple(map(_whole, document["feature"])),
        tuple(map(_real, document["value"])),
        tuple(map(_whole, document["left"])),
        tuple(map(_whole, document["right"])),
    )


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ForestFormatError(f"expected an integer, got {value!r}")
    return value


def _real(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise ForestFormatError(f"expected a number, got {value!r}")
    return float(value)


def _problem(tree: Tree, n_features: int) -> str | None:  # noqa: PLR0911 - one a rule
    """Return what keeps `tree` from being walked, or None."""
    size = len(tree.feature)
    if not size or {len(tree.value), len(tree.left), len(tree.right)} != {size}:
        return "its columns have different lengths, or none"
    if not all(map(math.isfinite, tree.value)):
        return "a value is not finite"
    children: list[int] = []
    for node, feature in enumerate(tree.feature):
        pair = tree.left[node], tree.right[node]
        if feature == LEAF:
            if pair != (0, 0) or tree.value[node] < 0:
                return f"leaf {node} has children, or a path shorter than nothing"
            continue
        if not 0 <= feature < n_features:
            return f"node {node} splits on feature {feature} of {n_features}"
        if not all(node < child < size for child in pair):
            return f"node {node} has the children {pair}: expected both behind it"
        children += pair
    if sorted(children) != list(range(1, size)):
        return "some node has no parent, or two"
    return None


def average_path_length(rows: int) -> float:
    """Return the average length of an unsuccessful search among `rows`; equation 1.

    Examples
    --------
    >>> average_path_length(1), average_path_length(2)
    (0.0, 1.0)
    >>> round(average_path_length(256), 6)
    10.244771
    """
    euler_gamma = 0.5772156649015329
    if rows <= 1:
        return 0.0
    if rows == 2:  # noqa: PLR2004 - the paper's second case
        return 1.0
    return 2.0 * (math.log(rows - 1.0) + euler_gamma) - 2.0 * (rows - 1.0) / rows


def from_estimator(estimator: Any) -> IsolationForest:
    """Return a fitted scikit-learn ``IsolationForest`` as data.

    Only its public attributes are read; nothing of scikit-learn is imported.

    Raises
    ------
    ForestFormatError
        Its trees saw one row each, so that no path can be compared with any other.
    """
    trees = tuple(
        _flat(fitted.tree_, [int(column) for column in columns])
        for fitted, columns in zip(
            estimator.estimators_, estimator.estimators_features_, strict=True
        )
    )
    normaliser = len(trees) * average_path_length(int(estimator.max_samples_))
    if not normaliser:
        raise ForestFormatError(
            f"trees of {estimator.max_samples_} row isolate nothing: expected two rows "
            "or more in max_samples"
        )
    return IsolationForest(int(estimator.n_features_in_), normaliser, trees)


def _flat(nodes: Any, columns: Sequence[int]) -> Tree:
    left, right = nodes.children_left.tolist(), nodes.children_right.tolist()
    feature = [
        LEAF if child < 0 else columns[split]
        for split, child in zip(nodes.feature.tolist(), left, strict=True)
    ]
    value: list[float] = nodes.threshold.tolist()
    rows: list[int] = nodes.n_node_samples.tolist()
    depth = [1.0] * len(feature)
    for node, split in enumerate(feature):
        if split == LEAF:
            # scikit-learn counts the nodes of a path and takes one off last
            value[node] = depth[node] + average_path_length(rows[node]) - 1.0
        else:
            depth[left[node]] = depth[right[node]] = depth[node] + 1.0
    return Tree(
        tuple(feature),
        tuple(value),
        tuple(max(0, child) for child in left),
        tuple(max(0, child) for child in right),
    )


def prove_equal(
    estimator: Any, forest: IsolationForest, rows: Sequence[Sequence[float]]
) -> float:
    """Return the greatest difference from the estimator's scores on `rows`.

    Raises
    ------
    UnequalForestError
        It exceeds `TOLERANCE`, or there is no row to prove anything on.
    """
    if not len(rows):
        raise UnequalForestError("there is no row to compare flat trees on")
    expected: list[float] = (-estimator.score_samples(rows)).tolist()
    found = [forest.score(row) for row in rows]
    differences = [abs(a - b) for a, b in zip(expected, found, strict=True)]
    if not all(difference <= TOLERANCE for difference in differences):
        raise UnequalForestError(
            f"flat trees differ from the estimator by {max(differences)!r} on "
            f"{len(found)} rows; at most {TOLERANCE!r} is rounding"
        )
    return max(differences)
