"""When a changed feature definition is read: once its projection equals the log.

A changed definition is another projection. `write_features` folds it from the moment
it is deployed, a rebuild fills in what came before, and until then its values are those
of a part of the events, which nobody may take for features. So what was seen to equal
the log is recorded as a decision about the pipeline, and readers follow that.

The first definition of a pipeline needs no such word: its projection began with the
log, so it equals it all along.
"""

from retrodict.errors import ProjectionNotVerifiedError
from retrodict.features import FeatureSet
from retrodict.lifecycle import Lifecycle
from retrodict.pipeline import Pipeline


def is_readable(
    pipeline: Pipeline, definition: FeatureSet, lifecycle: Lifecycle
) -> bool:
    """Return whether every value of a projection is that of the whole log.

    It is where that was verified. As long as nothing ever was, it is for the definition
    that was there first: the one that retires, or the only one.
    """
    if lifecycle.verified.get(definition.digest) is not None:
        return True
    rivals = [d for d in pipeline.definitions if d.event is definition.event]
    before = [old for old in rivals if old in pipeline.retiring] or rivals
    return not lifecycle.verified and before == [definition]


def readable(pipeline: Pipeline, lifecycle: Lifecycle) -> tuple[FeatureSet, ...]:
    """Return the feature sets to read: the current ones, or what they still wait for.

    Raises
    ------
    ProjectionNotVerifiedError
        A current one cannot be read yet, and neither can one that it takes over from.
    """
    found: dict[str, FeatureSet] = {}
    for current in pipeline.features:
        before = (old for old in pipeline.retiring if old.event is current.event)
        several = (
            [current]
            if is_readable(pipeline, current, lifecycle)
            else [old for old in before if is_readable(pipeline, old, lifecycle)]
        )
        if not several:
            raise ProjectionNotVerifiedError(_sentence(pipeline, current))
        found |= {definition.digest: definition for definition in several}
    return tuple(found.values())


def check_readable(
    pipeline: Pipeline,
    definition: FeatureSet,
    lifecycle: Lifecycle,
    serving: str | None,
) -> None:
    """Refuse to roll out a model on a projection that may be half filled.

    Parameters
    ----------
    serving
        Digest of the definition that the champion was trained on, None for no champion.

    Raises
    ------
    ProjectionNotVerifiedError
        Nothing says that the projection equals the log.
    """
    is_changed = (
        serving not in {None, definition.digest}
        and lifecycle.verified.get(definition.digest) is None
        and definition not in pipeline.retiring
    )
    if is_changed or not is_readable(pipeline, definition, lifecycle):
        raise ProjectionNotVerifiedError(_sentence(pipeline, definition))


def _sentence(pipeline: Pipeline, definition: FeatureSet) -> str:
    return (
        f"pipeline {pipeline.name!r} has not verified the projection of "
        f"{definition.name!r}, definition {definition.digest[:12]}: it may lack events "
        "from before it was deployed; fill it with `retrodict rebuild online`, then "
        "verify it with `retrodict rebuild online --verify`"
    )
