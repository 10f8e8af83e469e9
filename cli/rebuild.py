"""`rebuild`: replay the log, and compare or repair what was folded online."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import click
from retrodict.envelope import StampedEvent
from retrodict.errors import StateConflictError
from retrodict.online import item_of
from retrodict.pipeline import definitions_of, load_pipelines
from retrodict.ports import OnlineItem
from retrodict.scoring import SCORING
from retrodict.state import KeyState, order_of_knowing
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.s3_event_log import S3EventLog

from cli.options import json_option, target_options
from cli.output import emit, pairs
from cli.target import Target


def replay(
    events: Iterable[StampedEvent],
) -> tuple[dict[str, OnlineItem], Counter[str]]:
    """Fold the whole log: the item of every key, and the outcome of every event."""
    by_key: dict[tuple[str, str], list[StampedEvent]] = {}
    for event in events:
        by_key.setdefault((event.type, event.key), []).append(event)
    items: dict[str, OnlineItem] = {}
    outcomes: Counter[str] = Counter()
    for (event_type, key), known in by_key.items():
        ordered = order_of_knowing(known)
        for pipeline, definition in definitions_of(event_type):
            state, folded = KeyState(definition).fold(ordered)
            outcomes.update(one.outcome.value for one in folded)
            if state.entries:
                entity = pipeline.entity(definition, key)
                items[entity] = item_of(entity, state, 1)
    return items, outcomes


def digest_of(items: Mapping[str, OnlineItem]) -> str:
    """Return one digest over every byte that a rebuild must reproduce."""
    digest = hashlib.sha256()
    for entity in sorted(items):
        for part in items[entity].content():
            raw = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def split_scoring(
    items: Iterable[OnlineItem],
) -> tuple[dict[str, OnlineItem], dict[str, OnlineItem]]:
    """Return what `write_features` keeps, and what `score_events` keeps beside it."""
    kept: dict[str, OnlineItem] = {}
    scoring: dict[str, OnlineItem] = {}
    for item in items:
        (scoring if item.entity.startswith(SCORING) else kept)[item.entity] = item
    return kept, scoring


def scored_entities(entities: Iterable[str]) -> list[str]:
    """Return those of the entities that `score_events` keeps a state of as well."""
    prefixes = tuple(
        pipeline.entity(pipeline.trained_on, "")
        for pipeline in load_pipelines().values()
        if pipeline.model is not None
    )
    return [entity for entity in entities if entity.startswith(prefixes)]


def same_fold(item: OnlineItem, replayed: Mapping[str, OnlineItem]) -> bool:
    """Return whether a scoring item folds the same events as the log gives."""
    other = replayed.get(item.entity.removeprefix(SCORING))
    return other is not None and (other.position, other.state) == (
        item.position,
        item.state,
    )


@click.group()
def rebuild() -> None:
    """Replay the log into a projection.

    \b
    Example
      retrodict rebuild online --verify
    """


@rebuild.command()
@click.option(
    "--verify", is_flag=True, help="Compare only; exit with 1 on a difference."
)
@json_option
@target_options
def online(*, verify: bool, as_json: bool, target: Target) -> None:
    """Fold the whole log again and compare it with, or write it to, the online store.

    Position, time, features and state are compared byte for byte, and so are the
    states that the stream is scored from. Without --verify, items that differ or are
    missing are written, and items that the log does not explain are named.

    \b
    Examples
      retrodict rebuild online --verify
      retrodict rebuild online
    """
    target.wait_idle()
    log = S3EventLog(target.client("s3"), target.outputs["EventLogBucketName"])
    store = DynamoDBOnlineStore(
        target.client("dynamodb"), target.outputs["OnlineStoreTableName"]
    )
    replayed, outcomes = replay(log.read())
    stored, scoring = split_scoring(store.scan())
    differing = sorted(
        entity
        for entity, item in replayed.items()
        if entity not in stored or stored[entity].content() != item.content()
    )
    unexplained = sorted(stored.keys() - replayed.keys())
    apart = sorted(e for e, item in scoring.items() if not same_fold(item, replayed))
    apart += sorted(
        f"{SCORING}{entity}"
        for entity in scored_entities(replayed)
        if f"{SCORING}{entity}" not in scoring
    )
    written = 0
    if not verify:
        written += _repair(store, stored, [replayed[entity] for entity in differing])
        written += _repair(store, scoring, _scoring_items(apart, scoring, replayed))
    document: dict[str, Any] = {
        "events": sum(outcomes.values()), "outcomes": dict(outcomes),
        "items": len(replayed), "equal": len(replayed) - len(differing),
        "log_digest": digest_of(replayed), "store_digest": digest_of(stored),
        "differing": differing, "unexplained": unexplained,
        "scoring_items": len(scoring), "scoring_differing": apart,
        "written": written,
    }  # fmt: skip
    emit(document, as_json=as_json, table=pairs(document))
    if verify and (differing or unexplained or apart):
        click.get_current_context().exit(1)


def _scoring_items(
    entities: Iterable[str],
    scoring: Mapping[str, OnlineItem],
    replayed: Mapping[str, OnlineItem],
) -> Iterator[OnlineItem]:
    """Yield what the stream shall be scored from; when a key alerted last is kept."""
    for entity in entities:
        fold = replayed.get(entity.removeprefix(SCORING))
        if fold is not None:
            memory = scoring[entity].features if entity in scoring else "{}"
            yield replace(fold, entity=entity, features=memory)


def _repair(
    store: DynamoDBOnlineStore,
    stored: dict[str, OnlineItem],
    items: Iterable[OnlineItem],
) -> int:
    """Write items over those of the store, and return how many."""
    written = 0
    for item in items:
        version = stored[item.entity].version + 1 if item.entity in stored else 1
        try:
            store.put(replace(item, version=version))
        except StateConflictError as error:
            raise click.UsageError(
                f"{error}; data is flowing: rebuild again when it has settled"
            ) from error
        written += 1
    return written
