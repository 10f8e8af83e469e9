"""The log as a command reads it: once, each event once, by type."""

from collections.abc import Collection, Iterable
from functools import cached_property

from retrodict.envelope import StampedEvent
from retrodict.pipeline import load_catalog
from retrodict.state import order_of_knowing
from retrodict.upcasting import all_newest
from retrodict_aws.s3_event_log import S3EventLog

from cli.target import Target


class History:
    """Events of the log in the order of knowing.

    An identity counts once: the first by position, wherever the log holds copies.
    """

    def __init__(self, events: Iterable[StampedEvent]) -> None:
        self._events = order_of_knowing(list(events))

    @classmethod
    def read(cls, target: Target, types: Collection[str] | None = None) -> "History":
        """Read the log of a deployment, or only the events of some `types`."""
        log = S3EventLog(target.client("s3"), target.outputs["EventLogBucketName"])
        return cls(all_newest(log.read(types=types), load_catalog().contracts))

    @cached_property
    def _by_type(self) -> dict[str, list[StampedEvent]]:
        found: dict[str, list[StampedEvent]] = {}
        for event in self._events:
            found.setdefault(event.type, []).append(event)
        return found

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], list[StampedEvent]]:
        found: dict[tuple[str, str], list[StampedEvent]] = {}
        for event in self._events:
            found.setdefault((event.type, event.key), []).append(event)
        return found

    def all(self, event_type: str) -> list[StampedEvent]:
        """Return the events of a type as they were sent, copies included."""
        return self._by_type.get(event_type, [])

    def once(self, event_type: str) -> list[StampedEvent]:
        """Return the events of a type, each identity once."""
        known: dict[tuple[str, str, str], StampedEvent] = {}
        for event in self.all(event_type):
            known.setdefault((event.key, event.source, event.id), event)
        return list(known.values())

    def of_key(self, event_type: str, key: str) -> list[StampedEvent]:
        """Return the events of a type and key as they were sent."""
        return self._by_key.get((event_type, key), [])

    def types(self) -> list[str]:
        """Return the types there are."""
        return sorted(self._by_type)
