"""A pipeline: what a user writes once, and every function reads.

A pipeline is a package under ``pipelines``; its ``__init__`` binds one ``Pipeline``
to the name ``pipeline``. Adding one is copying a folder.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Final

from retrodict.contracts import Event
from retrodict.errors import (
    ContractDefinitionError,
    FeatureDefinitionError,
    PipelineDefinitionError,
)
from retrodict.features import FeatureSet, feature_set
from retrodict.lifecycle import LIFECYCLE_EVENTS
from retrodict.model import Model
from retrodict.system_events import SYSTEM_EVENTS
from retrodict.validation import Catalog

SYSTEM_LATENESS_US: Final = 366 * 86_400 * 1_000_000
"""How late an event of our own may come: a label may take its time."""


class Pipeline:
    """A name, the feature sets that carry it, and the model that reads them.

    Attributes
    ----------
    name
        Name of the package, part of the key of every online item.
    features
        One feature set for each event type that the pipeline reads.
    retiring
        Feature sets as they were before. They are folded beside those that take their
        place, and read until these are verified; see `retrodict.switching`.
    model
        What is trained on the features and served, or None.

    Raises
    ------
    FeatureDefinitionError
        A member of `features` or `retiring` is no class decorated with ``@features``.
    PipelineDefinitionError
        There are no features, the model reads those of no set of them, or a retiring
        set is current as well, or nothing takes its place.
    """

    def __init__(
        self,
        name: str,
        *,
        features: Sequence[object],
        retiring: Sequence[object] = (),
        model: Model | None = None,
    ) -> None:
        self.name = name
        self.features = tuple(map(feature_set, features))
        self.retiring = tuple(map(feature_set, retiring))
        self.model = model
        if not self.features:
            raise PipelineDefinitionError(f"pipeline {name!r} has no features")
        for old in self.retiring:
            self._check_retiring(old)
        if model is not None:
            self.trained_on  # noqa: B018 - refuse a model of no set at once

    def _check_retiring(self, old: FeatureSet) -> None:
        if [d.digest for d in self.definitions].count(old.digest) > 1:
            raise PipelineDefinitionError(
                f"pipeline {self.name!r} retires {old.name!r}, but another of its sets "
                "means the same: leave it out of `retiring`, there is nothing to switch"
            )
        if old.event not in {definition.event for definition in self.features}:
            raise PipelineDefinitionError(
                f"pipeline {self.name!r} retires {old.name!r}, but none of its features"
                f" reads {old.event.contract().type!r}: nothing takes its place"
            )

    @property
    def definitions(self) -> tuple[FeatureSet, ...]:
        """Every feature set that is folded: the current ones, then the retiring."""
        return (*self.features, *self.retiring)

    @property
    def served(self) -> tuple[FeatureSet, ...]:
        """The feature sets that a champion may have been trained on.

        Raises
        ------
        PipelineDefinitionError
            The pipeline has no model.
        """
        current = self.trained_on
        before = (old for old in self.retiring if old.event is current.event)
        return (current, *before)

    @property
    def trained_on(self) -> FeatureSet:
        """The feature set that the model reads.

        Raises
        ------
        PipelineDefinitionError
            The pipeline has no model, or its features are not all of one set.
        """
        wanted = self.model.features if self.model else ()
        for definition in self.features:
            own = {id(feature) for feature in definition.features.values()}
            if wanted and own.issuperset(map(id, wanted)):
                return definition
        raise PipelineDefinitionError(
            f"pipeline {self.name!r} has no model whose features are all of one of "
            f"its sets {[definition.name for definition in self.features]}"
        )

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The contracts of the pipeline's events."""
        return tuple(definition.event for definition in self.features)

    def entity(self, definition: FeatureSet, key: str) -> str:
        """Return the partition key of `key` in the online store.

        The digest of the definition is part of it: a changed definition is another
        projection, and never meets a state that it cannot read.

        Examples
        --------
        >>> from pipelines.sensor_anomaly import pipeline
        >>> pipeline.entity(pipeline.features[0], "s-1").split(".")[:2]
        ['sensor_anomaly', 'Sensor']
        """
        return f"{self.name}.{definition.name}.{definition.digest[:12]}#{key}"


@cache
def load_pipelines() -> Mapping[str, Pipeline]:
    """Import every package under ``pipelines`` and return its pipeline by name.

    Raises
    ------
    PipelineDefinitionError
        A package binds no pipeline, or two claim one event type differently.

    Examples
    --------
    >>> sorted(load_pipelines())
    ['sensor_anomaly']
    """
    root = importlib.import_module("pipelines")
    found: dict[str, Pipeline] = {}
    for module in pkgutil.iter_modules(root.__path__):
        package = _import(module.name, Path(root.__path__[0]))
        pipeline = getattr(package, "pipeline", None)
        if not isinstance(pipeline, Pipeline) or pipeline.name != module.name:
            raise PipelineDefinitionError(
                f"package pipelines.{module.name} must bind a Pipeline named "
                f"{module.name!r} to `pipeline`; it binds {pipeline!r}"
            )
        found[pipeline.name] = pipeline
    if not found:
        raise PipelineDefinitionError("no package under pipelines: add one")
    return found


def _import(name: str, folder: Path) -> ModuleType:
    """Import a pipeline's package; what it declares wrongly is said with its place."""
    try:
        return importlib.import_module(f"pipelines.{name}")
    except (
        AttributeError,
        ContractDefinitionError,
        FeatureDefinitionError,
        PipelineDefinitionError,
    ) as error:
        frames = [
            frame
            for frame in extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(folder / name)
        ]
        why = _unknown_field(error) if isinstance(error, AttributeError) else error
        if not frames or why is None:
            raise
        last = frames[-1]
        place = f"{Path(last.filename).relative_to(folder)}, line {last.lineno}"
        attribute = (last.line or "").partition("=")[0].strip()
        if attribute.isidentifier():
            place += f", {attribute}"
        raise PipelineDefinitionError(f"{place}: {why}") from error


def _unknown_field(error: AttributeError) -> str | None:
    """Return what is wrong where somebody reads a field that an event has not."""
    found = error.obj
    if not isinstance(found, type) or not issubclass(found, Event) or found is Event:
        return None
    contract = found.contract()
    fields = [ref.name for ref in contract.fields]
    return f"event {contract.type!r} has no field {error.name!r}; it has {fields}"


def folded_types(pipelines: Iterable[Pipeline]) -> frozenset[str]:
    """Return the types of the events that features are made of.

    Examples
    --------
    >>> sorted(folded_types(load_pipelines().values()))
    ['sensor.reading']
    """
    return frozenset(
        event.contract().type for pipeline in pipelines for event in pipeline.events
    )


def scored_types(pipelines: Iterable[Pipeline]) -> frozenset[str]:
    """Return the types of the events that a model scores.

    Examples
    --------
    >>> sorted(scored_types(load_pipelines().values()))
    ['sensor.reading']
    """
    return frozenset(
        pipeline.trained_on.event.contract().type
        for pipeline in pipelines
        if pipeline.model is not None
    )


@cache
def load_catalog() -> Catalog:
    """Return the contract and the lateness of every event type of every pipeline.

    Raises
    ------
    PipelineDefinitionError
        Two pipelines give one event type different contracts or lateness.
    """
    ours = (*SYSTEM_EVENTS, *LIFECYCLE_EVENTS)
    contracts: dict[str, type[Event]] = {event.contract().type: event for event in ours}
    lateness_us: dict[str, int] = dict.fromkeys(contracts, SYSTEM_LATENESS_US)
    for pipeline in load_pipelines().values():
        for definition in pipeline.definitions:
            name = definition.event.contract().type
            lateness = lateness_us.setdefault(name, definition.lateness_us)
            contract = contracts.setdefault(name, definition.event)
            if contract.contract().json_schema() != (
                definition.event.contract().json_schema()
            ):
                raise PipelineDefinitionError(
                    f"pipeline {pipeline.name!r} declares {name!r} unlike another "
                    "pipeline: share the contract, or give it a type of its own"
                )
            if lateness != definition.lateness_us:
                raise PipelineDefinitionError(
                    f"pipeline {pipeline.name!r} gives {name!r} a lateness of "
                    f"{definition.lateness_us} us, another pipeline {lateness} us: "
                    "an event is stamped late once, so they must agree"
                )
    return Catalog(contracts=contracts, lateness_us=lateness_us)


@cache
def definitions_of(event_type: str) -> tuple[tuple[Pipeline, FeatureSet], ...]:
    """Return every feature set that reads `event_type`, with its pipeline."""
    return tuple(
        (pipeline, definition)
        for pipeline in load_pipelines().values()
        for definition in pipeline.definitions
        if definition.event.contract().type == event_type
    )
