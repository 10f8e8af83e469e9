"""Score rows with an isolation forest: scikit-learn, ours, and how many times faster.

Run with ``python benchmarks/inference.py``. Each figure is the median of several runs
in this one process, scikit-learn and ours in turn. Scores are compared first: a figure
for other numbers would be none.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from retrodict.artifact import Artifact, digest_of
from retrodict.forest import TOLERANCE, IsolationForest, from_estimator, prove_equal
from retrodict.pipeline import Pipeline, load_pipelines
from sklearn.ensemble import IsolationForest as Estimator

sys.path.insert(0, str(Path(__file__).parents[1] / "functions/serve_champion"))

from answer import Champion

FEATURES, TREES, ROWS = 5, 100, 1_000


class Nowhere:
    """Ports that hold nothing and take everything."""

    def put(self, records: Any) -> int:
        """Take predictions."""
        return len(records)

    def load(self, _entities: Any) -> dict[str, Any]:
        """Return no item."""
        return {}

    def scan(self) -> Any:
        """Yield no item."""
        return iter(())


def median_us(act: Callable[[], object], runs: int) -> float:
    """Return the median time of `act`, microseconds."""
    act()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def line(what: str, peer_us: float, ours_us: float) -> None:
    """Print a row of the table."""
    ratio = peer_us / ours_us
    print(f"{what:<34}{peer_us:>14,.0f}{ours_us:>12,.1f}{ratio:>9,.1f} x")


def artifact_of(forest: IsolationForest, pipeline: Pipeline) -> Artifact:
    """Return an artifact of the pipeline around a forest of as many features."""
    names = tuple(pipeline.trained_on.features)[: forest.n_features]
    return Artifact(
        pipeline=pipeline.name,
        feature_set=pipeline.trained_on.name,
        definition=pipeline.trained_on.digest,
        features=names,
        model=forest.to_json(),
        threshold=0.6,
        alert_budget=0.01,
        training_set=f"sha256:{'0' * 64}",
        code=f"sha256:{'0' * 64}",
        seed=1,
        run_id="run-0",
    )


def main() -> None:
    """Fit, prove, measure, print."""
    rows = np.random.default_rng(1).normal(size=(20_000, FEATURES))
    estimator = Estimator(n_estimators=TREES, random_state=1).fit(rows)
    forest = from_estimator(estimator)
    many = rows[:ROWS]
    one, listed = many[0].tolist(), many.tolist()
    worst = prove_equal(estimator, forest, listed)
    if forest.scores(many) != forest.scores(listed):
        raise SystemExit("an array of rows scores to other bits than its rows")

    print(f"{platform.machine()}, Python {platform.python_version()}; {TREES} trees,")
    print(f"{FEATURES} features; greatest difference {worst:.1e} of {TOLERANCE:.0e}\n")
    print(f"{'median, us':<34}{'scikit-learn':>14}{'ours':>12}{'ratio':>11}")
    peer_us = median_us(lambda: estimator.score_samples(many[:1]), 50)
    line("one row, pure Python", peer_us, median_us(lambda: forest.score(one), 500))
    peer_us = median_us(lambda: estimator.score_samples(many), 20)
    line(
        f"{ROWS} rows, pure Python",
        peer_us,
        median_us(lambda: forest.scores(listed), 9),
    )
    line(
        f"{ROWS} rows, numpy array", peer_us, median_us(lambda: forest.scores(many), 9)
    )
    peer_us = median_us(lambda: estimator.score_samples(rows), 5)
    line(
        f"{len(rows)} rows, numpy array",
        peer_us,
        median_us(lambda: forest.scores(rows), 5),
    )

    pipeline = load_pipelines()["sensor_anomaly"]
    artifact = artifact_of(forest, pipeline)
    raw = artifact.encode()
    took = median_us(lambda: Artifact.decode(raw, digest_of(raw)).scorer.score(one), 9)
    print(f"\nverify, load and first score {took / 1_000:.0f} ms, {len(raw):,} bytes")
    nowhere: Any = Nowhere()
    champion = Champion(
        artifact, pipeline, nowhere, nowhere,
        lambda: time.time_ns() // 1_000, lambda: time.perf_counter_ns() // 1_000,
    )  # fmt: skip
    features = dict(zip(artifact.features, one, strict=True))
    body = json.dumps({"instances": [{"features": features}]}).encode()
    took = median_us(lambda: champion.answer(body, {}), 500)
    print(f"one request of one row, read to answer, without HTTP and AWS {took:.0f} us")


if __name__ == "__main__":
    main()
