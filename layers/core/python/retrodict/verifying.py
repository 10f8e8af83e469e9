"""What comparing the online store with the log says of each projection, as decisions.

`retrodict.switching` says what follows for those who read.
"""

from collections.abc import Iterator

from retrodict.lifecycle import (
    Decided,
    Lifecycle,
    ProjectionVerified,
    ProjectionWithdrawn,
    Verified,
    decided,
)
from retrodict.pipeline import Pipeline
from retrodict.replaying import Comparison
from retrodict.scoring import SCORING
from retrodict.switching import is_readable


def verdicts(
    pipeline: Pipeline, found: Comparison, lifecycle: Lifecycle
) -> Iterator[Decided]:
    """Yield what a comparison with the whole log says of a pipeline's projections.

    Nothing is said again. The time of a verdict is that of the newest event that it
    is about.
    """
    differing = {*found.differing, *found.apart, *found.unexplained}
    places = {entity.removeprefix(SCORING).partition("#")[0] for entity in differing}
    projections = found.projections()
    deployed = set()
    for definition in pipeline.definitions:
        deployed.add(definition.digest)
        name = pipeline.entity(definition, "").removesuffix("#")
        own = [i for e, i in found.replayed.items() if e.partition("#")[0] == name]
        if not own:
            continue
        time_us = max(item.time_us for item in own)
        known = lifecycle.verified.get(definition.digest)
        if name in places:
            if is_readable(pipeline, definition, lifecycle) and _is_apart(found, name):
                yield _withdrawn(
                    pipeline, definition.digest, time_us, "items differ from the log"
                )
            continue
        seen = Verified(
            projections[name]["store_digest"], max(item.position for item in own)
        )
        if seen != known:
            yield decided(
                ProjectionVerified,
                time_us,
                pipeline=pipeline.name,
                feature_set=definition.name,
                definition=definition.digest,
                items=len(own),
                digest=seen.digest,
                position=seen.position,
            )
    newest_us = max((item.time_us for item in found.replayed.values()), default=0)
    for digest in sorted(lifecycle.verified.keys() - deployed):
        if lifecycle.verified[digest] is None:
            continue
        yield _withdrawn(
            pipeline, digest, newest_us, "it is deployed no more, so nothing folds it"
        )


def _is_apart(found: Comparison, name: str) -> bool:
    """Return whether a projection differs otherwise than by being ahead of the log.

    A key that the log does not know may be one that has not been archived yet.
    """
    wrong = {*found.differing, *found.apart} - found.ahead
    entities = (entity.removeprefix(SCORING) for entity in wrong)
    return any(e in found.replayed and e.partition("#")[0] == name for e in entities)


def _withdrawn(pipeline: Pipeline, digest: str, time_us: int, reason: str) -> Decided:
    return decided(
        ProjectionWithdrawn,
        time_us,
        pipeline=pipeline.name,
        definition=digest,
        reason=reason,
    )
