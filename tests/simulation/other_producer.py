"""A producer that is not ours: it learns what a stream takes from its refusals."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError
from retrodict.errors import RecordTooLargeError, StreamUnavailableError
from retrodict_aws.clients import AWS_ERRORS, error_code

from tests.simulation.kinesis import KinesisClient

TOO_LARGE: Final = {"ValidationException", "InvalidArgumentException"}

Placed = tuple[int, tuple[str, bytes]]


class OtherProducer:
    """Put all that it has in one request, and halve what is refused as a whole."""

    def __init__(self, client: KinesisClient, stream_name: str) -> None:
        self._client = client
        self._stream_name = stream_name

    def put(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Put records; see `IngestStream.put`."""
        several = [*enumerate(records)]
        too_large = self._put(several)
        if too_large:
            raise RecordTooLargeError(self._stream_name, tuple(too_large))
        return len(several)

    def _put(self, records: Sequence[Placed]) -> list[int]:
        """Put records, and return the places of those that are never taken."""
        entries = [{"PartitionKey": key, "Data": data} for _, (key, data) in records]
        try:
            answer = self._client.put_records(
                StreamName=self._stream_name, Records=entries
            )
        except ClientError as error:
            if error_code(error) not in TOO_LARGE:
                raise StreamUnavailableError(error_code(error)) from error
            if len(records) == 1:
                return [records[0][0]]
            middle = len(records) // 2
            return self._put(records[:middle]) + self._put(records[middle:])
        except AWS_ERRORS as error:
            raise StreamUnavailableError(error_code(error)) from error
        results: list[dict[str, Any]] = answer["Records"]
        if answer["FailedRecordCount"]:
            failed = sum("ErrorCode" in result for result in results)
            raise StreamUnavailableError(f"{failed} records were refused")
        return []
