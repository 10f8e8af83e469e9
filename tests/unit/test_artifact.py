"""A package is loaded only if it is the one artifact that its digest promises."""

import gzip
import io
import json
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict.artifact import (
    MAX_BYTES,
    MEMBER,
    Artifact,
    digest_of,
    read_package,
    write_package,
)
from retrodict.errors import (
    ArtifactRefusedError,
    IncompatibleArtifactError,
    PermanentError,
    WrongDigestError,
)
from retrodict.features import features
from retrodict.pipeline import Pipeline
from retrodict.vocabulary import last, mean

from tests.artifacts import ANOMALOUS, LIMIT, NAMES, ORDINARY, PIPELINE, artifact

ARTIFACT = artifact()
RAW = ARTIFACT.encode()


def packed(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a model.tar.gz with these members, given by content or by header."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0)


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


def array_of_objects() -> bytes:
    held = io.BytesIO()
    np.save(held, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return held.getvalue()


def sparse() -> bytes:
    """Return a package whose one member claims a terabyte of nothing."""
    member = tarfile.TarInfo(MEMBER)
    member.size = 0
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": MEMBER,
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": f"{1 << 40},0",
    }
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    return gzip.compress(tar.getvalue(), mtime=0)


def bomb() -> bytes:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    parts = [packer.compress(zeros) for _ in range((MAX_BYTES >> 20) + 2)]
    return b"".join([*parts, packer.flush()])


def test_an_artifact_comes_back_as_it_was_packed() -> None:
    found = read_package(write_package(ARTIFACT), ARTIFACT.digest)

    assert found == ARTIFACT
    assert found.encode() == RAW
    assert found.digest == ARTIFACT.digest == digest_of(RAW)


def test_the_same_artifact_gives_the_same_package() -> None:
    assert write_package(artifact()) == write_package(artifact())


def test_an_artifact_that_was_read_scores_like_the_one_that_was_written() -> None:
    found = read_package(write_package(ARTIFACT))
    rest = [0.0] * (len(NAMES) - 1)

    assert found.scorer.score([LIMIT, *rest]) == ORDINARY
    assert found.scorer.score([LIMIT + 1, *rest]) == ANOMALOUS


def test_a_package_as_tar_itself_writes_a_folder_is_read_by_its_file() -> None:
    assert read_package(packed((f"./{MEMBER}", RAW))) == ARTIFACT


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        (b"", "too early"),
        (b"no gzip", "no gzip"),
        (RAW, "no gzip"),
        (pickle.dumps({"model": 1}), "no gzip"),
        (gzip.compress(b"no tar", mtime=0), "no tar"),
        (gzip.compress(b"", mtime=0), "expected one|no tar"),
        (write_package(ARTIFACT)[:-20], "too early"),
        (write_package(ARTIFACT) + b"more", "follows"),
        (write_package(ARTIFACT) + write_package(ARTIFACT), "follows"),
        (packed(), "expected one"),
        (packed((MEMBER, RAW), (MEMBER, RAW)), "got 2"),
        (packed((MEMBER, RAW), ("model.pkl", pickle.dumps({}))), r"'model\.pkl'"),
        (packed(("model.pkl", pickle.dumps({}))), r"'model\.pkl'.*never code"),
        (packed(("model.joblib", b"\x80")), r"'model\.joblib'"),
        (packed(("weights.npy", array_of_objects())), r"'weights\.npy'"),
        (packed(("code/inference.py", b"import os")), r"'code/inference\.py'"),
        (packed((f"../{MEMBER}", RAW)), r"'\.\./artifact\.json'"),
        (packed((f"x/../{MEMBER}", RAW)), r"'x/\.\./artifact\.json'"),
        (packed((f"../../etc/{MEMBER}", RAW)), "etc"),
        (packed((f"/{MEMBER}", RAW)), r"'/artifact\.json'"),
        (packed((f"././{MEMBER}", RAW)), r"'\./\./artifact\.json'"),
        (packed((MEMBER.upper(), RAW)), "ARTIFACT"),
        (packed(("./", special(tarfile.DIRTYPE)), (MEMBER, RAW)), "a folder"),
        (packed((MEMBER, special(tarfile.DIRTYPE))), "a folder"),
        (packed((MEMBER, special(tarfile.SYMTYPE, "/etc/passwd"))), "link to '/etc"),
        (packed((MEMBER, special(tarfile.LNKTYPE, "x"))), "link to 'x'"),
        (packed((MEMBER, special(tarfile.CHRTYPE))), "device"),
        (packed((MEMBER, special(tarfile.FIFOTYPE))), "device"),
        (sparse(), "sparse"),
        (bomb(), "unpacks to more"),
        (packed((MEMBER, pickle.dumps({}))), "no JSON"),
    ],
)  # fmt: skip
def test_a_package_of_anything_else_is_refused(package: bytes, sentence: str) -> None:
    with pytest.raises(ArtifactRefusedError, match=sentence):
        read_package(package)


def test_a_pickle_is_not_even_opened() -> None:
    class Exploding:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return exec, ("raise SystemExit('unpickled')",)

    for name in ("model.pkl", MEMBER):
        with pytest.raises(ArtifactRefusedError):
            read_package(packed((name, pickle.dumps(Exploding()))))


@pytest.mark.parametrize("expected", [f"sha256:{'0' * 64}", "", "sha256:"])
def test_another_content_than_the_registered_one_is_refused(expected: str) -> None:
    with pytest.raises(WrongDigestError, match="nothing was loaded"):
        read_package(write_package(ARTIFACT), expected)


def test_one_changed_threshold_changes_the_digest() -> None:
    forged = write_package(replace(ARTIFACT, threshold=0.99))

    with pytest.raises(WrongDigestError):
        read_package(forged, ARTIFACT.digest)


def document(**changes: Any) -> bytes:
    return canonical({**json.loads(RAW), **changes})


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def without(name: str) -> bytes:
    return canonical({k: v for k, v in json.loads(RAW).items() if k != name})


def nested(depth: int) -> bytes:
    return document(card={}).replace(b'"card":{}', b'"card":{"a":' + b"[" * depth
                                     + b"]" * depth + b"}")  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "format"),
        (b"7", "format"),
        (b"{}", "format"),
        (document(format="retrodict.artifact/v2"), "format"),
        (document(format=None), "format"),
        (without("threshold"), "lacks member 'threshold'"),
        (without("model"), "lacks member 'model'"),
        (document(digest="x"), "unknown member 'digest'"),
        (RAW + b"\n", "canonical"),
        (RAW.decode().encode("utf-16"), "canonical"),
        (json.dumps(json.loads(RAW)).encode(), "canonical"),
        (RAW.replace(b'"seed":1', b'"seed":1,"seed":1'), "canonical"),
        (RAW.replace(b"0.75", b"0.750"), "canonical"),
        (RAW.replace(b"0.75", b"NaN"), "NaN"),
        (RAW.replace(b"0.75", b"Infinity"), "Infinity"),
        (RAW.replace(b"0.75", b"1e400"), "threshold"),
        (RAW.replace(b'"metrics":{}', b'"metrics":{"a":1e400}'), "no JSON"),
        (RAW.replace(b'"metrics":{}', b'"metrics":{"a":NaN}'), "NaN"),
        (RAW.replace(b'"seed":1', b'"seed":' + b"9" * 5_000), "no JSON"),
        (nested(100_000), "no JSON"),
        (document(threshold="0.75"), "threshold"),
        (document(threshold=True), "threshold"),
        (document(threshold=None), "threshold"),
        (document(alert_budget=0), "alert_budget"),
        (document(alert_budget=1.5), "alert_budget"),
        (document(seed=1.0), "seed"),
        (document(seed="1"), "seed"),
        (document(pipeline=""), "pipeline"),
        (document(pipeline=7), "pipeline"),
        (document(pipeline="a\nb"), "pipeline"),
        (document(run_id="x" * 257), "run_id"),
        (document(definition="abc"), "definition"),
        (document(training_set="1" * 64), "training_set"),
        (document(code="sha1:1"), "code"),
        (document(features=[]), "features"),
        (document(features="abc"), "features"),
        (document(features=["a", "a"]), "features"),
        (document(features=["a", 1]), "features"),
        (document(features=["a"]), f"reads {len(NAMES)} features"),
        (document(model=[]), "model"),
        (document(model={}), "model"),
        (document(model={**ARTIFACT.model, "kind": "joblib"}), "isolation_forest"),
        (document(model={**ARTIFACT.model, "trees": [{"py/object": "os.system"}]}),
         "members"),
        (document(profile=[]), "profile"),
        (document(card=None), "card"),
    ],
)  # fmt: skip
def test_what_is_no_canonical_artifact_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(ArtifactRefusedError, match=sentence):
        Artifact.decode(raw)
    with pytest.raises(ArtifactRefusedError, match=sentence):
        read_package(packed((MEMBER, raw)), digest_of(raw))


def test_an_artifact_that_is_too_large_is_refused_before_it_is_read() -> None:
    raw = b" " * (MAX_BYTES + 1)

    with pytest.raises(ArtifactRefusedError, match="at most"):
        Artifact.decode(raw, digest_of(raw))


def test_an_artifact_of_the_deployed_definition_may_serve() -> None:
    assert ARTIFACT.definition_in(PIPELINE) is PIPELINE.trained_on


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pipeline": "another"}, "belongs to pipeline 'another'"),
        ({"definition": "0" * 64}, "train a candidate"),
        ({"features": (*NAMES[:-1], "unheard_of")}, "has no 'unheard_of'"),
    ],
)
def test_an_artifact_of_other_features_may_not_serve(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(IncompatibleArtifactError, match=sentence):
        artifact(**changes).definition_in(PIPELINE)


def test_a_pipeline_whose_definition_moved_on_refuses_its_old_champion() -> None:
    @features(Reading, lateness="10m", max_rate="1/s")
    class Sensor:
        mean_3 = mean(Reading.value, last(4))

    assert PIPELINE.model is not None
    names: Any = Sensor
    model = replace(PIPELINE.model, features=[names.mean_3])
    moved = Pipeline(PIPELINE.name, features=[Sensor], model=model)

    with pytest.raises(IncompatibleArtifactError, match="is deployed"):
        ARTIFACT.definition_in(moved)


def test_a_refusal_is_never_retried() -> None:
    assert issubclass(ArtifactRefusedError, PermanentError)
    assert issubclass(WrongDigestError, ArtifactRefusedError)
    assert issubclass(IncompatibleArtifactError, ArtifactRefusedError)
