"""What cannot be imported is kept with its bytes and told of without them."""

import importlib.util
import io
import json
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws
from retrodict.ports import LARGEST_RECORD_BYTES
from retrodict.rejection import redrivable
from retrodict.rows import NO_KEY
from retrodict_aws.clients import client
from retrodict_aws.import_bucket import DroppedFile, ImportBucket

from tests.fakes import FakeIngestStream, FakeQuarantine

HANDLER = Path(__file__).parents[2] / "functions/import_files/handler.py"
SECRET = "anna.petrov@example.org"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator["Imports"]:
    """Import files from a bucket of an account of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "importing")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Retrodict")
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    spec = importlib.util.spec_from_file_location("handler_of_imports", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock_aws():
        sys.modules["handler_of_imports"] = module
        spec.loader.exec_module(module)
        s3 = client("s3")
        s3.create_bucket(Bucket="imports")
        yield Imports(module, s3)
        del sys.modules["handler_of_imports"]


class Imports:
    """A bucket, and what became of the files in it."""

    def __init__(self, handler: ModuleType, s3: Any) -> None:
        self.stream, self.quarantine = FakeIngestStream(), FakeQuarantine()
        self._handler = handler
        self._s3 = s3

    def drop(
        self, name: str, body: bytes, metadata: Mapping[str, str] | None = None
    ) -> int:
        """Drop a file, import it, and return how many rows are on the stream."""
        key = f"sensor.reading/{name}"
        self._s3.put_object(
            Bucket="imports", Key=key, Body=body, Metadata=dict(metadata or {})
        )
        file = DroppedFile("imports", key, 1_767_614_400_000_000)
        rows: int = self._handler.handle(
            file, ImportBucket(self._s3), self.stream, self.quarantine
        )
        return rows


def event(**changes: object) -> bytes:
    document = {"specversion": "1.0", "id": "1", "subject": "s-1", **changes}
    return json.dumps(document).encode()


def test_a_row_that_fits_no_stream_is_quarantined_and_the_others_are_sent(
    imports: Imports,
) -> None:
    largest = event(text="")
    largest = event(text="x" * (LARGEST_RECORD_BYTES - len(largest) - len("s-1")))
    lines = [event(id="2"), largest + b" ", largest, event(id="3")]

    assert imports.drop("wide.jsonl", b"\n".join(lines)) == 3

    assert [raw for _, raw in imports.stream.records] == [lines[0], *lines[2:]]
    (document,) = imports.quarantine.read()
    assert document["codes"] == ["too_large"]
    assert document["position"].endswith("sensor.reading/wide.jsonl#2")
    assert b64decode(document["bytes_base64"]) == lines[1]
    assert redrivable([document]) == []


def test_importing_again_keeps_each_such_row_once(imports: Imports) -> None:
    row = event(text="x" * LARGEST_RECORD_BYTES)
    for _ in range(2):
        imports.drop("twice.jsonl", b"\n".join([row, row]))

    assert len([*imports.quarantine.read()]) == 2


@pytest.mark.parametrize("subject", ["s" * 257, "\ud800", "a\u0000b", "", 7, None])
def test_a_subject_that_is_no_partition_key_holds_up_no_other_row(
    imports: Imports, subject: object
) -> None:
    assert imports.drop("keys.jsonl", event(subject=subject) + b"\n" + event()) == 2

    assert [key for key, _ in imports.stream.records] == [NO_KEY, "s-1"]


def parquet(column: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"value": column}), sink)
    return sink.getvalue()


FILES = {
    "uneven.csv": f"time,value\n1,2\n{SECRET},{SECRET},{SECRET}\n".encode(),
    "quoted.csv": f'time,value\n"{SECRET}\n'.encode(),
    "unicode.csv": f"time,value\n{SECRET},".encode() + b"\xff\n",
    "none.parquet": SECRET.encode(),
    "cut.parquet": parquet(pa.array([SECRET] * 9))[:-9],
    "damaged.parquet": parquet(pa.array([SECRET] * 9)).replace(b"anna", b"\xff" * 4),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_in_a_file_that_cannot_be_read_is_in_no_log(
    imports: Imports, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = imports.drop(name, FILES[name])

    told = [record for record in caplog.records if record.name == "importing"]
    assert len(told) == len([*imports.quarantine.read()]) == (not rows)
    for record in told:
        assert SECRET.split("@", maxsplit=1)[0] not in str(record.__dict__)
        assert record.__dict__["quarantined"] in imports.quarantine.documents


def test_a_mapping_that_cannot_be_read_is_in_no_log(
    imports: Imports, caplog: pytest.LogCaptureFixture
) -> None:
    imports.drop("a.csv", b"time,value\n", {"set": f"sensor_id={SECRET},{SECRET}"})

    (document,) = imports.quarantine.read()
    assert SECRET in document["reasons"][0]["got"]
    assert all(SECRET not in str(record.__dict__) for record in caplog.records)
