"""A changed definition in the simulation: filled, verified and switched as it runs.

The definition before goes on being folded beside it. Whoever follows what was recorded
must never meet a value of the new projection that the log does not explain.
"""

from contextlib import ExitStack
from typing import Final

from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.errors import (
    ProjectionNotVerifiedError,
    StateConflictError,
    TransientError,
)
from retrodict.features import feature_set, features
from retrodict.lifecycle import Decided, Lifecycle
from retrodict.lifecycle import replay as replay_decisions
from retrodict.pipeline import Pipeline
from retrodict.replaying import Comparison, compare, replay_log
from retrodict.switching import readable
from retrodict.verifying import judge, newest_us, verdicts
from retrodict.vocabulary import count, last, last_value, mean, std
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.s3_event_log import S3EventLog

from tests.deployments import deployed, record_verdicts
from tests.fakes import FakeLifecycleStore
from tests.simulation.faults import Fault
from tests.simulation.stores import DynamoDBClient, S3Client
from tests.simulation.world import World

NAME: Final = "sensor_anomaly"


@features(Reading, lateness="10m", max_rate="1/s")
class Changed:
    """What takes the place of `Sensor`; it looks back as far, so a hole would show."""

    latest = last_value(Reading.value, last("10m"))
    mean_10m = mean(Reading.value, last("10m"))
    count_10m = count(Reading.value, last("10m"))
    mean_24 = mean(Reading.value, last(24))
    spread_24 = std(Reading.value, last(24))


CHANGED: Final = feature_set(Changed)
AFTER: Final = Pipeline(NAME, features=[Changed], retiring=[Sensor])
BEGINNING: Final = AFTER.entity(CHANGED, "")
"""How the entities of the new projection begin."""


class Operator:
    """Who deploys the change, and fills and verifies what it needs.

    Attributes
    ----------
    deployments
        Closed when the run is over; until then the core folds what was deployed.
    promised
        For each item of the new projection that was verified, how many versions it had
        before the first that may be read.
    """

    def __init__(
        self,
        world: World,
        dynamodb: DynamoDBClient,
        s3: S3Client,
        store: DynamoDBOnlineStore,
    ) -> None:
        self.deployments = ExitStack()
        self.promised: dict[str, int] = {}
        self.is_deployed = False
        self._world = world
        self._dynamodb = dynamodb
        self._log = S3EventLog(s3, "log")
        self._store = store
        self._decisions = FakeLifecycleStore()

    def deploy(self) -> None:
        """Deploy the changed definition; the one before retires."""
        self._world.fire(Fault.DEFINITION_CHANGED)
        self.deployments.enter_context(deployed(AFTER))
        self.is_deployed = True

    def fill(self) -> None:
        """Write what the log gives; whoever else writes or refuses ends it."""
        try:
            for item in self._compared().repairs():
                self._store.put(item)
                self._world.fire(Fault.FILLED, item.entity)
        except (StateConflictError, TransientError) as error:
            self._world.note(f"not filled: {error}")

    def verify(self) -> None:
        """Compare with the log and record what that says; events may flow."""
        try:
            found = self._compared()
            record_verdicts(
                self._decisions, NAME, lambda seen: self._decide(found, seen)
            )
        except TransientError as error:
            self._world.note(f"not verified: {error}")
            return
        if self.is_switched:
            self._world.fire(Fault.SWITCHED)
            self.promise()

    def promise(self) -> None:
        """Let whoever reads take the new projection for the fold of the log."""
        for entity, versions in self._dynamodb.versions.items():
            if entity.startswith(BEGINNING):
                self.promised.setdefault(entity, len(versions) - 1)

    @property
    def is_switched(self) -> bool:
        """Whether the new projection is what is read."""
        try:
            return readable(AFTER, self._lifecycle()) == (CHANGED,)
        except ProjectionNotVerifiedError:
            return False

    def _lifecycle(self) -> Lifecycle:
        return replay_decisions(self._decisions.read(NAME))

    def _compared(self) -> Comparison:
        replayed, _ = replay_log(self._log)
        return compare(
            replayed, self._store.scan(), lambda keys: self._log.read(keys=keys)
        )

    def _decide(self, found: Comparison, lifecycle: Lifecycle) -> Decided | None:
        judged = judge(found, lambda keys: self._log.read(keys=keys))
        return next(verdicts(AFTER, judged, newest_us(found), lifecycle), None)
