"""An isolation forest scores like scikit-learn's, and only if every walk ends."""

import json
import math
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict import forest as module
from retrodict.errors import ForestFormatError, UnequalForestError
from retrodict.forest import (
    LEAF,
    TOLERANCE,
    IsolationForest,
    Tree,
    average_path_length,
    from_estimator,
    prove_equal,
)
from sklearn.ensemble import IsolationForest as Estimator

STUMP = Tree((0, LEAF, LEAF), (0.5, 1.0, 2.0), (1, 0, 0), (2, 0, 0))
FOREST = IsolationForest(2, 2.0, (STUMP,))
FLOAT32_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
DOCUMENT = FOREST.to_json()


def fitted(
    n_features: int, seed: int = 1, **options: Any
) -> tuple[Estimator, np.ndarray[Any, Any]]:
    """Return an estimator fitted on heavy-tailed rows with ties, and rows like them."""
    random = np.random.default_rng(seed)
    rows = random.standard_t(2, size=(3_000, n_features))
    rows[::3] = np.round(rows[::3], 1)
    chosen = {"n_estimators": 50, "random_state": seed, **options}
    return Estimator(**chosen).fit(rows[:2_000]), rows[2_000:]


def bits(scores: list[float]) -> list[str]:
    return [score.hex() for score in scores]


@pytest.mark.parametrize(
    ("n_features", "options"),
    [
        (1, {}),
        (5, {}),
        (9, {"max_features": 4}),
        (6, {"max_features": 0.5, "bootstrap": True}),
        (3, {"max_samples": 2_000, "n_estimators": 7}),
        (4, {"max_samples": 2}),
        (4, {"n_estimators": 1, "max_samples": 3}),
        (2, {"contamination": 0.2}),
    ],
    ids=str,
)
def test_every_score_is_that_of_scikit_learn(
    n_features: int, options: dict[str, Any]
) -> None:
    estimator, rows = fitted(n_features, **options)
    forest = from_estimator(estimator)

    expected = -estimator.score_samples(rows)

    assert np.abs(np.array(forest.scores(rows.tolist())) - expected).max() <= TOLERANCE
    assert prove_equal(estimator, forest, rows.tolist()) <= TOLERANCE


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3),
        min_size=8,
        max_size=40,
    ),
    st.integers(0, 2**31 - 1),
)
def test_whatever_the_rows_the_scores_agree(rows: list[list[float]], seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, on ranges beyond float32
        estimator = Estimator(n_estimators=5, max_samples=8, random_state=seed)
        estimator.fit(rows)

    prove_equal(estimator, from_estimator(estimator), rows)


def test_a_row_on_a_threshold_goes_where_scikit_learn_sends_it() -> None:
    estimator, _ = fitted(2)
    forest = from_estimator(estimator)
    thresholds = [
        value
        for tree in forest.trees
        for split, value in zip(tree.feature, tree.value, strict=True)
        if split == 0
    ]
    rows = [
        [near, 0.0]
        for threshold in thresholds
        for near in (threshold, math.nextafter(threshold, 9e9), threshold - 1e-9)
    ]

    assert prove_equal(estimator, forest, rows) <= TOLERANCE
    assert bits(forest.scores(np.array(rows))) == bits(forest.scores(rows))


def test_a_row_exactly_on_a_threshold_goes_left() -> None:
    left, right = FOREST.score([0.0, 0.0]), FOREST.score([1.0, 0.0])
    rows = [[0.5, 0.0], [0.5 + 2**-25, 0.0], [0.5 + 2**-23, 0.0]]

    assert [FOREST.score(row) for row in rows] == [left, left, right]
    assert FOREST.scores(np.array(rows)) == [left, left, right]


@pytest.mark.parametrize("n_features", [1, 5])
def test_an_array_of_rows_scores_to_the_same_bits(n_features: int) -> None:
    estimator, rows = fitted(n_features, n_estimators=30)
    forest = from_estimator(estimator)

    assert bits(forest.scores(rows)) == bits(forest.scores(rows.tolist()))
    assert bits(forest.scores(rows.astype(np.float32))) == bits(forest.scores(rows))


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(
            st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=20,
    )
)
def test_an_array_of_any_doubles_scores_to_the_same_bits(
    rows: list[list[float]],
) -> None:
    forest = from_estimator(fitted(2, n_estimators=4)[0])

    assert bits(forest.scores(np.array(rows))) == bits(forest.scores(rows))


def test_a_forest_survives_json_to_the_bit() -> None:
    estimator, rows = fitted(4)
    forest = from_estimator(estimator)

    again = IsolationForest.from_json(json.loads(json.dumps(forest.to_json())))

    assert again == forest
    assert bits(again.scores(rows.tolist())) == bits(forest.scores(rows.tolist()))


@pytest.mark.parametrize(
    "value",
    [1e300, FLOAT32_MAX, math.nextafter(FLOAT32_MAX, math.inf)],
    ids=["double", "greatest", "rounds down"],
)
def test_what_is_beyond_float32_is_beyond_every_threshold(value: float) -> None:
    assert FOREST.score([value, 0.0]) == FOREST.score([1.0, 0.0])
    assert FOREST.score([-value, 0.0]) == FOREST.score([0.0, 0.0])


@pytest.mark.parametrize(
    "row",
    [[], [1.0], [1.0, 2.0, 3.0], [math.nan, 0], [0, math.inf], [-math.inf, 0],
     [math.inf, -math.inf], [1e300, math.nan], [10**400, 0], ["1", 0], [None, 0]],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_none_is_refused(row: list[Any]) -> None:
    with pytest.raises(ForestFormatError, match="expected"):
        FOREST.score(row)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros(2),
        np.zeros((1, 3)),
        np.full((1, 2), math.nan),
        np.full((1, 2), math.inf),
    ],
    ids=["flat", "wide", "nan", "infinite"],
)
def test_an_array_that_holds_no_rows_is_refused(rows: Any) -> None:
    with pytest.raises(ForestFormatError, match="expected"):
        FOREST.scores(rows)


def changed(**tree: Any) -> dict[str, Any]:
    return {**DOCUMENT, "trees": [{**DOCUMENT["trees"][0], **tree}]}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "kind"),
        ({**DOCUMENT, "kind": "pickle"}, "isolation_forest"),
        ({**DOCUMENT, "extra": 1}, "members"),
        ({k: v for k, v in DOCUMENT.items() if k != "trees"}, "members"),
        ({**DOCUMENT, "n_features": 0}, "features"),
        ({**DOCUMENT, "n_features": "2"}, "integer"),
        ({**DOCUMENT, "n_features": True}, "integer"),
        ({**DOCUMENT, "normaliser": 0}, "positive normaliser"),
        ({**DOCUMENT, "normaliser": -1.0}, "positive normaliser"),
        ({**DOCUMENT, "normaliser": math.nan}, "positive normaliser"),
        ({**DOCUMENT, "normaliser": math.inf}, "positive normaliser"),
        ({**DOCUMENT, "normaliser": "2"}, "number"),
        ({**DOCUMENT, "normaliser": 10**400}, "not an isolation forest"),
        ({**DOCUMENT, "trees": []}, "trees"),
        ({**DOCUMENT, "trees": None}, "not an isolation forest"),
        ({**DOCUMENT, "trees": [7]}, "not an isolation forest"),
        ({**DOCUMENT, "trees": [{}]}, "members"),
        (changed(more=[]), "members"),
        (changed(feature=[], value=[], left=[], right=[]), "lengths"),
        (changed(value=[0.5, 1.0]), "lengths"),
        (changed(value=[math.nan, 1.0, 2.0]), "finite"),
        (changed(value=[0.5, math.inf, 2.0]), "finite"),
        (changed(value=[0.5, "1", 2.0]), "number"),
        (changed(value=[0.5, -1.0, 2.0]), "leaf 1"),
        (changed(feature=[2, LEAF, LEAF]), "feature 2 of 2"),
        (changed(feature=[-2, LEAF, LEAF]), "feature -2 of 2"),
        (changed(feature=[0.0, LEAF, LEAF]), "integer"),
        (changed(feature=[False, LEAF, LEAF]), "integer"),
        (changed(left=[0, 0, 0]), "behind it"),
        (changed(left=[3, 0, 0]), "behind it"),
        (changed(left=[-1, 0, 0]), "behind it"),
        (changed(left=[1, 2, 0]), "leaf 1"),
        (changed(left=[2, 0, 0]), "no parent"),
        (changed(feature=[LEAF, LEAF, LEAF], left=[0] * 3, right=[0] * 3), "no parent"),
    ],
)
def test_what_could_not_be_walked_is_refused(
    document: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ForestFormatError, match=problem):
        IsolationForest.from_json(document)


def test_a_very_deep_tree_is_walked() -> None:
    splits = 10_000  # every left child is the next split, every right child a leaf
    tree = Tree(
        (*(0, LEAF) * splits, LEAF),
        (*(x for n in range(splits) for x in (-float(n), 1.0)), 1.0),
        (*(x for n in range(splits) for x in (2 * n + 2, 0)), 0),
        (*(x for n in range(splits) for x in (2 * n + 1, 0)), 0),
    )
    forest = IsolationForest(1, 1.0, (tree,))

    assert forest.score([-1e9]) == 0.5
    assert forest.scores(np.array([[-1e9], [1.0]])) == forest.scores([[-1e9], [1.0]])


def test_trees_that_isolate_nothing_are_refused() -> None:
    estimator, _ = fitted(2, max_samples=1)

    with pytest.raises(ForestFormatError, match="two rows or more"):
        from_estimator(estimator)


def test_one_wrong_turn_among_the_trees_is_noticed() -> None:
    estimator, rows = fitted(3)
    forest = from_estimator(estimator)
    first = forest.trees[0]
    turned = Tree(first.feature, first.value, first.right, first.left)
    other = IsolationForest(3, forest.normaliser, (turned, *forest.trees[1:]))

    with pytest.raises(UnequalForestError, match="differ from the estimator"):
        prove_equal(estimator, other, rows.tolist())


def test_nothing_is_proven_without_rows() -> None:
    estimator, _ = fitted(3)

    with pytest.raises(UnequalForestError, match="no row"):
        prove_equal(estimator, from_estimator(estimator), [])


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 100, 256, 10_000])
def test_the_average_path_is_that_of_scikit_learn(rows: int) -> None:
    from sklearn.ensemble._iforest import _average_path_length  # noqa: PLC0415

    expected = float(_average_path_length([rows])[0])

    assert average_path_length(rows) == pytest.approx(expected, rel=1e-15)


def test_the_module_itself_imports_no_package() -> None:
    assert not {"np", "numpy", "sklearn"} & set(vars(module))
