"""Compare validation with what else reads JSON records in Python.

Every path gets the same Lambda event of 500 Kinesis records, decodes base64, reads JSON
and checks the types of one sensor reading in its envelope, one record at a time, so
that one bad record costs only itself. The floors check nothing. Ours is what
``validate_records`` does between AWS and AWS: positions, strict JSON, the envelope, the
contract, stamps, digests, quarantine documents, grouping by key, and the records that
go on to the validated stream, which no peer makes.
"""

import argparse
import base64
import binascii
import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from benchmarks.peers import enter, medians_s, print_table, write_results

RECORDS: Final = 500
RUNS: Final = 101
"""Batches of each path and share of bad records, which all take turns: what slows the
machine down for a while slows all of them."""

SLOW_RUNS: Final = 5
"""Of those that are slow, which are measured last: what they import and leave behind
would weigh on the others."""

BAD: Final = (0.0, 0.02)
ARRIVED_S: Final = 1_767_614_400.123
OURS: Final = "retrodict"
RAW: Final = "msgspec Struct decode"
PARSER: Final = "Powertools BatchProcessor, parser model"

Act = Callable[[], int]


def batch(bad: float) -> dict[str, Any]:
    """Return a Lambda event of `RECORDS` readings, a share of them bad in turn."""
    source = random.Random(1)  # noqa: S311 - a benchmark that repeats
    spoilt = set(source.sample(range(RECORDS), round(RECORDS * bad)))
    return {"Records": [_record(n, source, n in spoilt) for n in range(RECORDS)]}


def _record(number: int, source: random.Random, spoil: bool) -> dict[str, Any]:  # noqa: FBT001 - a row of a table
    key = f"s-{source.randrange(100):03}"
    document = {
        "specversion": "1.0",
        "id": str(number),
        "source": "urn:f",
        "type": "sensor.reading",
        "subject": key,
        "time": f"2026-01-05T11:{number % 60:02}:{source.randrange(60):02}Z",
        "dataschema": "sensor.reading/v1",
        "data": {"sensor_id": key, "value": round(source.uniform(15, 25), 2)},
    }
    raw = json.dumps(document, separators=(",", ":")).encode()
    if spoil:
        raw = (
            raw[:-20],
            raw.replace(b'"value":', b'"value":"x","w":'),
            raw.replace(b'"value":', b'"value":9'),
            raw.replace(b'"id":', b'"Id":'),
        )[number % 4]
    sequence = f"{number:056}"
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": sequence,
            "data": base64.b64encode(raw).decode(),
            "approximateArrivalTimestamp": ARRIVED_S,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000006:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda",
        "awsRegion": "eu-central-1",
        "eventSourceARN": "arn:aws:kinesis:eu-central-1:123456789012:stream/ingest",
    }


def _texts(event: dict[str, Any]) -> Iterable[str]:
    return [record["kinesis"]["data"] for record in event["Records"]]


def base64_only(event: dict[str, Any]) -> Act:
    """Return the floor below which no reader of a Lambda event can go."""

    def act() -> int:
        return len([binascii.a2b_base64(text) for text in _texts(event)])

    return act


def _one_by_one(
    event: dict[str, Any],
    read: Callable[[bytes], object],
    error: type[Exception] | tuple[type[Exception], ...],
) -> Act:
    def act() -> int:
        good, bad = [], []
        for text in _texts(event):
            raw = binascii.a2b_base64(text)
            try:
                good.append(read(raw))
            except error as wrong:
                bad.append((raw, wrong))
        return len(good)

    return act


def _struct() -> Any:
    """Return the reading for msgspec, with the same rules as our contract."""
    import msgspec  # noqa: PLC0415 - of the peers' environment

    key = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
    value = Annotated[float, msgspec.Meta(ge=-40, le=125)]
    site = Annotated[str, msgspec.Meta(max_length=64)] | None
    text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    data = msgspec.defstruct(
        "Data",
        [("sensor_id", key), ("value", value), ("site", site, None)],
        forbid_unknown_fields=True,
    )
    return msgspec.defstruct(
        "Reading",
        [
            ("specversion", Literal["1.0"]),
            ("id", text),
            ("source", text),
            ("type", Literal["sensor.reading"]),
            ("subject", text),
            ("time", datetime),
            ("dataschema", Literal["sensor.reading/v1"]),
            ("data", data),
        ],
    )


def _model() -> Any:
    """Return the reading for pydantic, with the same rules as our contract."""
    import pydantic  # noqa: PLC0415 - of the peers' environment

    create: Any = pydantic.create_model
    strict = pydantic.ConfigDict(extra="forbid")
    data = create(
        "Data",
        __config__=strict,
        sensor_id=(str, pydantic.Field(pattern=r"^[a-z0-9-]{1,64}$")),
        value=(float, pydantic.Field(ge=-40, le=125)),
        site=(str | None, None),
    )
    text = Annotated[str, pydantic.Field(min_length=1, max_length=256)]
    return create(
        "Reading",
        specversion=(Literal["1.0"], ...),
        id=(text, ...),
        source=(text, ...),
        type=(Literal["sensor.reading"], ...),
        subject=(text, ...),
        time=(datetime, ...),
        dataschema=(Literal["sensor.reading/v1"], ...),
        data=(data, ...),
    )


def _json_schema() -> Callable[[bytes], object]:
    """Return a reader by the JSON Schema of the reading."""
    import jsonschema  # noqa: PLC0415 - of the peers' environment

    validator = jsonschema.Draft202012Validator(_model().model_json_schema())

    def read(raw: bytes) -> object:
        document = json.loads(raw)
        validator.validate(document)
        return document

    return read


def _frame(event: dict[str, Any]) -> Any:
    """Return the records of a batch as a frame; what is no JSON never comes into it."""
    import pandas as pd  # noqa: PLC0415 - of the peers' environment

    documents = []
    for text in _texts(event):
        try:
            documents.append(json.loads(binascii.a2b_base64(text)))
        except ValueError:
            continue
    return pd.json_normalize(documents)


def _pandera(event: dict[str, Any]) -> Act:
    """Return pandera over one frame a batch.

    Where one value is no number, it does not look at the range of the others.
    """
    import pandera.pandas as pa  # noqa: PLC0415 - of the peers' environment

    schema = pa.DataFrameSchema(
        {
            "specversion": pa.Column(str, pa.Check.isin(["1.0"])),
            "id": pa.Column(str, pa.Check.str_length(1, 256)),
            "source": pa.Column(str, pa.Check.str_length(1, 256)),
            "type": pa.Column(str, pa.Check.isin(["sensor.reading"])),
            "subject": pa.Column(str, pa.Check.str_length(1, 256)),
            "time": pa.Column("datetime64[us, UTC]", coerce=True),
            "dataschema": pa.Column(str, pa.Check.isin(["sensor.reading/v1"])),
            "data.sensor_id": pa.Column(
                str, pa.Check.str_matches(r"^[a-z0-9-]{1,64}\Z")
            ),
            "data.value": pa.Column(float, pa.Check.in_range(-40, 125), coerce=True),
        }
    )

    def act() -> int:
        frame = _frame(event)
        try:
            return len(schema.validate(frame, lazy=True))
        except pa.errors.SchemaErrors as wrong:
            return len(frame) - int(wrong.failure_cases["index"].nunique())

    return act


def _expectations(event: dict[str, Any]) -> Act:
    """Return Great Expectations over one frame a batch."""
    import great_expectations as gx  # noqa: PLC0415 - of the peers' environment

    expect = gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("batch")
    whole = asset.add_batch_definition_whole_dataframe("whole")
    columns = (
        ("specversion", "1\\.0"),
        ("id", ".{1,256}"),
        ("source", ".{1,256}"),
        ("type", "sensor\\.reading"),
        ("subject", ".{1,256}"),
        ("dataschema", "sensor\\.reading/v1"),
        ("data.sensor_id", "[a-z0-9-]{1,64}"),
    )
    suite = gx.ExpectationSuite(
        name="reading",
        expectations=[
            *(
                expect.ExpectColumnValuesToNotBeNull(column=column)
                for column, _ in columns
            ),
            *(
                expect.ExpectColumnValuesToMatchRegex(column=column, regex=f"^{text}$")
                for column, text in columns
            ),
            expect.ExpectColumnValuesToMatchRegex(
                column="time", regex="^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$"
            ),
            expect.ExpectColumnValuesToNotBeNull(column="data.value"),
            expect.ExpectColumnValuesToBeBetween(
                column="data.value", min_value=-40, max_value=125
            ),
        ],
    )

    def act() -> int:
        frame = _frame(event)
        batch = whole.get_batch(batch_parameters={"dataframe": frame})
        found = batch.validate(suite, result_format="COMPLETE")
        wrong: set[int] = set()
        for one in found.results:
            wrong.update(one.result.get("unexpected_index_list") or ())
        return len(frame) - len(wrong)

    return act


def _powertools(
    event: dict[str, Any], read: Callable[[Any], object], model: Any = None
) -> Act:
    from aws_lambda_powertools.utilities.batch import (  # noqa: PLC0415 - of the peers
        BatchProcessor,
        EventType,
        process_partial_response,
    )

    kinds = EventType.KinesisDataStreams
    processor = BatchProcessor(event_type=kinds, model=model)
    context: Any = None

    def act() -> int:
        answer = process_partial_response(event, read, processor, context)
        return RECORDS - len(answer["batchItemFailures"])

    return act


def _parser_model(model: Any) -> Any:
    from aws_lambda_powertools.utilities.parser.models import (  # noqa: PLC0415 - of the peers
        KinesisDataStreamRecord,
        KinesisDataStreamRecordPayload,
    )
    from pydantic import Json, create_model  # noqa: PLC0415 - of the peers

    create: Any = create_model
    json_of: Any = Json
    payload = create(
        "Payload", __base__=KinesisDataStreamRecordPayload, data=(json_of[model], ...)
    )
    return create("Record", __base__=KinesisDataStreamRecord, kinesis=(payload, ...))


class Drain:
    """Both ports of the function, which keep nothing.

    Events become the records that ``KinesisEventStream`` would put, rejects the body of
    the object that ``S3Quarantine`` would.
    """

    def __init__(self) -> None:
        from retrodict_aws.kinesis_event_stream import encode  # noqa: PLC0415 - later
        from retrodict_aws.s3_quarantine import body  # noqa: PLC0415 - later

        self._encode, self._body = encode, body
        self.rejected = self.bytes = 0

    def put(self, first: Any, documents: Any = None) -> None:
        """Take events, or rejects."""
        if documents is None:
            for batch in first:
                for data in self._encode(batch):
                    self.bytes += len(data)
        else:
            self.rejected += len(documents)
            self.bytes += len(self._body(documents))


def ours(event: dict[str, Any]) -> Act:
    """Return what ``validate_records`` does with a batch, up to the doors of AWS."""
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root / "functions/validate_records"))
    os.environ |= {
        "POWERTOOLS_METRICS_NAMESPACE": "Bench",
        "POWERTOOLS_SERVICE_NAME": "bench",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    handler = __import__("handler")

    drain = Drain()

    def act() -> int:
        counts = handler.handle(handler.DeliveredBatch(event), drain, drain)
        return int(counts["AcceptedRecords"])

    return act


def paths(event: dict[str, Any]) -> dict[str, Act]:
    """Return every path over one batch, by name."""
    import msgspec  # noqa: PLC0415 - of the peers' environment
    import orjson  # type: ignore[import-not-found]  # noqa: PLC0415
    import pydantic  # noqa: PLC0415

    model = _model()
    decoder, adapter = msgspec.json.Decoder(_struct()), pydantic.TypeAdapter(model)
    return {
        "floor: base64 only": base64_only(event),
        "floor: base64 + orjson, no checks": _one_by_one(
            event, orjson.loads, orjson.JSONDecodeError
        ),
        RAW: _one_by_one(event, decoder.decode, msgspec.DecodeError),
        "pydantic TypeAdapter": _one_by_one(
            event, adapter.validate_json, pydantic.ValidationError
        ),
        "pydantic model_validate_json": _one_by_one(
            event, model.model_validate_json, pydantic.ValidationError
        ),
        "Powertools BatchProcessor + msgspec": _powertools(
            event, lambda record: decoder.decode(record.kinesis.data_as_bytes())
        ),
        "Powertools BatchProcessor + pydantic": _powertools(
            event,
            lambda record: model.model_validate_json(record.kinesis.data_as_bytes()),
        ),
        PARSER: _powertools(
            event, lambda record: record.kinesis.data, _parser_model(model)
        ),
        OURS: ours(event),
    }


def slow_paths(event: dict[str, Any]) -> dict[str, Act]:
    """Return those that take a hundredth of a second and more for a batch, by name."""
    import jsonschema  # noqa: PLC0415 - of the peers' environment

    return {
        "json + jsonschema": _one_by_one(
            event, _json_schema(), (ValueError, jsonschema.ValidationError)
        ),
        "pandera, one frame a batch": _pandera(event),
        "Great Expectations, one frame a batch": _expectations(event),
    }


def main() -> None:
    """Measure, print the tables and write ``out/bench/validation.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each path")
    chosen = parser.parse_args()
    tables: dict[str, Any] = {}
    events = {f"{bad:.0%} bad": batch(bad) for bad in BAD}
    found: dict[str, dict[str, float]] = {title: {} for title in events}
    taken: dict[str, dict[str, int]] = {title: {} for title in events}
    for paths_of, runs in ((paths, chosen.runs), (slow_paths, SLOW_RUNS)):
        acts = {
            (title, name): act
            for title, event in events.items()
            for name, act in paths_of(event).items()
        }
        taken_s = medians_s(acts, min(runs, chosen.runs), again=True)
        for (title, name), took_s in taken_s.items():
            found[title][name] = RECORDS / took_s / 1e3
            taken[title][name] = acts[title, name]()
    for title, rates in found.items():
        size = statistics.mean(
            len(base64.b64decode(text)) for text in _texts(events[title])
        )
        heading = f"{title}, {size:.0f} B a record"
        print_table(heading, "thousand records/s", rates, [OURS])
        print(f"accepted {taken[title]}")
        tables[title] = {
            "record_bytes": size,
            "thousand_records_per_s": rates,
            "ours_to_peer": {name: rates[OURS] / rate for name, rate in rates.items()},
            "accepted": taken[title],
            "runs": chosen.runs,
        }
    good, some = (table["thousand_records_per_s"][OURS] for table in tables.values())
    print(f"\nours with 2 % bad to ours with none: {some / good:.2f}")
    write_results("validation", tables)


if __name__ == "__main__":
    enter()
    main()
