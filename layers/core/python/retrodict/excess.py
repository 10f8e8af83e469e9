"""Say as an event that a key sends more than its feature set was declared for."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from retrodict.features import FeatureSet
from retrodict.stamps import to_text
from retrodict.state import Folded, Outcome
from retrodict.system_events import RateExceeded

SOURCE: Final = "urn:retrodict:features"


def excess_records(
    found: Iterable[tuple[str, FeatureSet, Sequence[Folded]]],
) -> list[tuple[str, bytes]]:
    """Return partition key and CloudEvent for each item that was sent too much.

    The id is the item and the first event that did not fit, so that saying it twice
    is once.

    Parameters
    ----------
    found
        Entity of an item, its definition, and what became of the events of a batch.

    Examples
    --------
    >>> excess_records([])
    []
    """
    records = []
    contract = RateExceeded.contract()
    for entity, definition, folded in found:
        beyond = [one.event for one in folded if one.outcome is Outcome.TOO_FAST]
        if not beyond:
            continue
        first = beyond[0]
        document = {
            "specversion": "1.0",
            "id": f"{entity}/{first.position}",
            "source": SOURCE,
            "type": contract.type,
            "subject": first.key,
            "time": to_text(first.observed_at_us),
            "dataschema": contract.schema_name(),
            "data": {
                "entity": first.key,
                "pipeline": entity.partition(".")[0],
                "feature_set": definition.name,
                "event_type": first.type,
                "max_rate": definition.max_rate,
                "events": len(beyond),
                "first_position": first.position,
            },
        }
        raw = json.dumps(document, sort_keys=True, allow_nan=False).encode()
        records.append((first.key, raw))
    return records
