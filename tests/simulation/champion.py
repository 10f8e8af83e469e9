"""What scores the stream in the simulation: a stump over the mean of three readings."""

from typing import Final

from retrodict.artifact import Artifact
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.lifecycle import ChampionPromoted, decided

from tests.artifacts import PIPELINE, RUN, artifact
from tests.fakes import FakeLifecycleStore
from tests.simulation.world import START_US

STUMP: Final = Tree((0, LEAF, LEAF), (20.0, 0.8, 0.2), (1, 0, 0), (2, 0, 0))
CHAMPION: Final[Artifact] = artifact(
    features=("mean_3",), model=IsolationForest(1, 1.0, (STUMP,)).to_json()
)


def promoted() -> FakeLifecycleStore:
    """Return the decisions of a pipeline whose champion has always served."""
    store = FakeLifecycleStore()
    decision = decided(
        ChampionPromoted,
        START_US,
        pipeline=PIPELINE.name,
        run_id=RUN,
        artifact_digest=CHAMPION.digest,
        artifact_uri="s3://artifacts/champion/model.tar.gz",
        endpoint_name="endpoint",
        config_name="config",
    )
    store.append(PIPELINE.name, [decision], expected_version=0)
    return store
