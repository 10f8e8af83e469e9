"""Files dropped in the import bucket, as records for the ingest stream."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import awswrangler as wr
import pyarrow as pa
from retrodict.errors import EventFormatError, ImportFileError, PermanentError
from retrodict.rows import RowMapping, parse_pairs, partition_key_of
from retrodict.stamps import from_text, to_text
from retrodict.validation import Catalog

from retrodict_aws.clients import AWS_ERRORS, error_code

CHUNK_ROWS: Final = 5_000
ENDINGS: Final = ("csv", "jsonl", "ndjson", "parquet")


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """An object as EventBridge announces it."""

    bucket: str
    key: str
    arrived_at_us: int

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Read an EventBridge `Object Created` event."""
        detail = event["detail"]
        return cls(
            bucket=detail["bucket"]["name"],
            key=detail["object"]["key"],
            arrived_at_us=from_text(event["time"]),
        )

    @property
    def arrival_date(self) -> str:
        """Date of arrival, UTC, as ``YYYY-MM-DD``."""
        return to_text(self.arrived_at_us)[:10]

    @property
    def uri(self) -> str:
        """Address of the object."""
        return f"s3://{self.bucket}/{self.key}"


class ImportBucket:
    """Reads dropped files in chunks; a file is never whole in memory."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def records(
        self, file: DroppedFile, catalog: Catalog
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (partition key, bytes) for each row.

        The object's user metadata may hold ``map`` ("field=column,…"), ``set``
        ("field=value,…") and ``time-zone``, as ``retrodict send`` takes them.

        Raises
        ------
        ImportFileError
            The key names no event type or no format of ours, the metadata is no
            mapping, or the content is not of that format.
        """
        event_type, _, rest = file.key.partition("/")
        ending = file.key.rsplit(".", 1)[-1].lower()
        if event_type not in catalog.contracts or not rest or ending not in ENDINGS:
            raise ImportFileError(
                f"{file.uri}: expected <event type>/<name>.<{'|'.join(ENDINGS)}> with "
                f"an event type of {sorted(catalog.contracts)}"
            )
        try:
            head = self._client.head_object(Bucket=file.bucket, Key=file.key)
            metadata, etag = head["Metadata"], head["ETag"].strip('"')
            mapping = RowMapping(
                event=catalog.contracts[event_type],
                columns=parse_pairs(metadata.get("map", "")),
                constants=parse_pairs(metadata.get("set", "")),
                source=f"urn:retrodict:import:{etag}",
                time_zone=metadata.get("time-zone", "UTC"),
            )
        except PermanentError as error:
            raise ImportFileError(f"{file.uri}: {error}") from error
        except AWS_ERRORS as error:
            if error_code(error) not in {"404", "NoSuchKey"}:
                raise
            raise ImportFileError(f"{file.uri}: deleted before its import") from error
        for number, row in enumerate(self._rows(file, ending), start=1):
            yield row if isinstance(row, tuple) else mapping.to_cloudevent(row, number)

    def _rows(
        self, file: DroppedFile, ending: str
    ) -> Iterator[Mapping[str, object] | tuple[str, bytes]]:
        try:
            if ending in {"jsonl", "ndjson"}:
                yield from self._lines(file)
            elif ending == "csv":
                yield from _records(
                    wr.s3.read_csv(
                        file.uri,
                        chunksize=CHUNK_ROWS,
                        dtype=str,
                        keep_default_na=False,
                        path_suffix=None,
                    )
                )
            else:
                yield from _records(wr.s3.read_parquet(file.uri, chunked=CHUNK_ROWS))
        except (ValueError, pa.ArrowException, EventFormatError) as error:
            raise ImportFileError(
                f"{file.uri}: not readable as {ending}: {error}"
            ) from error

    def _lines(
        self, file: DroppedFile
    ) -> Iterator[Mapping[str, object] | tuple[str, bytes]]:
        """Yield rows; a line that is a CloudEvent, or no object, goes as it is."""
        body = self._client.get_object(Bucket=file.bucket, Key=file.key)["Body"]
        for line in body.iter_lines():
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict) and "specversion" not in row:
                yield row
            else:
                subject = row.get("subject") if isinstance(row, dict) else None
                yield partition_key_of(subject), line


def _records(frames: Iterable[Any]) -> Iterator[Mapping[str, object]]:
    for frame in frames:
        yield from pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
