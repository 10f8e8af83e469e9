"""A trained model as data: one canonical JSON document, known by its sha256.

It is packed as SageMaker wants it, a ``model.tar.gz``, which holds exactly one file,
``artifact.json``. Whatever else a package holds is refused before it is looked at:
nothing is unpacked to a path that the package chose, and nothing is ever unpickled.
"""

import gzip
import hashlib
import io
import json
import math
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from dataclasses import field as attribute
from functools import cached_property
from typing import Any, Final, NoReturn, Self

from retrodict.errors import (
    ArtifactRefusedError,
    ForestFormatError,
    IncompatibleArtifactError,
    WrongDigestError,
)
from retrodict.features import FeatureSet
from retrodict.forest import IsolationForest
from retrodict.pipeline import Pipeline

FORMAT: Final = "retrodict.artifact/v1"
MEMBER: Final = "artifact.json"
MAX_BYTES: Final = 64 * 1024 * 1024
"""What an artifact may hold; a package that unpacks to more is refused."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DEFINITION: Final = re.compile(r"[0-9a-f]{64}")
_BLOCKS: Final = 1024 * 1024
"""Room for the blocks of a tar around its one member, bytes."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Everything a prediction needs, and everything that says where it came from.

    Attributes
    ----------
    definition
        Digest of the feature set that it was trained on.
    features
        Names of the model's features in the order of its rows, shape (n_features,).
    model
        The fitted model as JSON says it.
    threshold
        A score at or above it is an alert.
    alert_budget
        Share of ordinary rows that may alert.
    profile
        Reference profile of features and score.
    training_set, code
        ``sha256:`` digests of the rows it was fitted on, and of the code that did it.
    """

    pipeline: str
    feature_set: str
    definition: str
    features: tuple[str, ...]
    model: Mapping[str, Any]
    threshold: float
    alert_budget: float
    training_set: str
    code: str
    seed: int
    run_id: str
    profile: Mapping[str, Any] = attribute(default_factory=dict)
    metrics: Mapping[str, Any] = attribute(default_factory=dict)
    options: Mapping[str, Any] = attribute(default_factory=dict)
    card: Mapping[str, Any] = attribute(default_factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes: sorted keys, no spaces, shortest exact floats."""
        members = {f.name: getattr(self, f.name) for f in fields(self)}
        return json.dumps(
            {"format": FORMAT, **members},
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        ).encode()

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the digest of the canonical bytes."""
        return digest_of(self.encode())

    @cached_property
    def scorer(self) -> IsolationForest:
        """The model, ready to score.

        Raises
        ------
        ForestFormatError
            The model is none that can be walked.
        """
        return IsolationForest.from_json(self.model)

    @classmethod
    def decode(cls, raw: bytes, expected_digest: str | None = None) -> Self:
        """Read canonical bytes.

        Parameters
        ----------
        expected_digest
            What the registry says; None only where the digest is just being found.

        Raises
        ------
        WrongDigestError
            The bytes have another digest.
        ArtifactRefusedError
            They are no canonical artifact of a format this code knows.
        """
        if expected_digest is not None and digest_of(raw) != expected_digest:
            raise WrongDigestError(
                f"expected an artifact with digest {expected_digest}, got one with "
                f"{digest_of(raw)}: it is not what was registered; nothing was loaded"
            )
        if len(raw) > MAX_BYTES:
            raise ArtifactRefusedError(
                f"the artifact has {len(raw)} bytes, at most {MAX_BYTES} are read"
            )
        try:
            document = json.loads(raw, parse_constant=_refuse_constant)
            found = cls._of(document)
            is_canonical = found.encode() == raw
        except (ValueError, RecursionError) as error:
            raise ArtifactRefusedError(f"the artifact is no JSON: {error}") from error
        if not is_canonical:
            raise ArtifactRefusedError(
                "the artifact is not canonical JSON: one content must have one digest"
            )
        vars(found)["digest"] = digest_of(raw)
        return found

    @classmethod
    def _of(cls, document: Any) -> Self:
        """Check every member of a document, and return the artifact."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ArtifactRefusedError(
                f"expected an artifact of the format {FORMAT!r}: train it again with "
                "this code, or read it with the code that wrote it"
            )
        names = {"format", *(f.name for f in fields(cls))}
        if set(document) != names:
            odd = min(set(document) ^ names)
            state = "lacks" if odd in names else "has an unknown"
            raise ArtifactRefusedError(f"the artifact {state} member {odd!r}")
        for name, is_good in _MEMBERS.items():
            if not is_good(document[name]):
                raise ArtifactRefusedError(
                    f"the artifact's {name} cannot be {str(document[name])[:80]!r}"
                )
        document.pop("format")
        document["features"] = tuple(document["features"])
        found = cls(**document)
        try:
            width = found.scorer.n_features
        except ForestFormatError as error:
            raise ArtifactRefusedError(f"the artifact's model: {error}") from error
        if width != len(found.features):
            raise ArtifactRefusedError(
                f"the artifact's model reads {width} features, but it names "
                f"{len(found.features)}"
            )
        return found

    def definition_in(self, pipeline: Pipeline) -> FeatureSet:
        """Return the feature set that the model was trained on, current or retiring.

        Raises
        ------
        IncompatibleArtifactError
            The pipeline is another, or has no such definition or features.
        """
        if self.pipeline != pipeline.name:
            raise IncompatibleArtifactError(
                f"the artifact belongs to pipeline {self.pipeline!r}, not "
                f"{pipeline.name!r}"
            )
        known = {definition.digest: definition for definition in pipeline.served}
        definition = known.get(self.definition)
        if definition is None:
            raise IncompatibleArtifactError(
                f"the artifact was trained on feature definition {self.definition[:12]}"
                f", but {', '.join(d[:12] for d in known)} is deployed: train a "
                "candidate on it, or keep the definition before in `retiring`"
            )
        unknown = set(self.features) - set(definition.features)
        if unknown:
            raise IncompatibleArtifactError(
                f"feature set {definition.name!r} has no {min(unknown)!r}"
            )
        return definition


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()  # noqa: PLR2004 - the length of an entity's name too


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and -math.inf < value < math.inf


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_MEMBERS: Final = {
    "pipeline": _is_text,
    "feature_set": _is_text,
    "definition": lambda v: isinstance(v, str) and _DEFINITION.fullmatch(v) is not None,
    "features": lambda v: (
        isinstance(v, list) and v and all(map(_is_text, v)) and len(set(v)) == len(v)
    ),
    "model": _is_object,
    "threshold": _is_number,
    "alert_budget": lambda v: _is_number(v) and 0 < v < 1,
    "training_set": _is_digest,
    "code": _is_digest,
    "seed": lambda v: type(v) is int,
    "run_id": _is_text,
    "profile": _is_object,
    "metrics": _is_object,
    "options": _is_object,
    "card": _is_object,
}
"""What each member of an artifact may be."""


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def digest_of(raw: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest of `raw`."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def write_package(artifact: Artifact) -> bytes:
    """Return ``model.tar.gz`` with the artifact; the same artifact, the same bytes."""
    raw = artifact.encode()
    member = tarfile.TarInfo(MEMBER)
    member.size = len(raw)
    member.mode = 0o644
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(raw))
    return gzip.compress(tar.getvalue(), compresslevel=6, mtime=0)


def read_package(package: bytes, expected_digest: str | None = None) -> Artifact:
    """Return the artifact of a ``model.tar.gz``.

    Raises
    ------
    ArtifactRefusedError
        The package holds anything but one regular file ``artifact.json``, or more
        than `MAX_BYTES`, or no artifact of that digest.
    """
    return Artifact.decode(_only_member(_unzip(package)), expected_digest)


def _unzip(package: bytes) -> bytes:
    """Return the tar inside, never more than `MAX_BYTES` and its blocks."""
    limit = MAX_BYTES + _BLOCKS
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        tar = unpacker.decompress(package, limit)
    except zlib.error as error:
        raise ArtifactRefusedError(f"the package is no gzip file: {error}") from error
    if len(tar) >= limit:
        raise ArtifactRefusedError(f"the package unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise ArtifactRefusedError("the package ends too early")
    if unpacker.unused_data.strip(b"\0"):
        raise ArtifactRefusedError("something follows the package's gzip stream")
    return tar


def _only_member(tar: bytes) -> bytes:
    """Return the content of `MEMBER`; nothing is ever written to a path."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            members = archive.getmembers()
            for member in members:
                _check_member(member)
            if len(members) != 1:
                raise ArtifactRefusedError(
                    f"expected one {MEMBER!r} in the package, got {len(members)}"
                )
            content = archive.extractfile(members[0])
            return content.read() if content is not None else b""
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise ArtifactRefusedError(f"the package is no tar file: {error}") from error


def _check_member(member: tarfile.TarInfo) -> None:
    """Refuse all but the one regular file; ``tar -C model .`` writes it with ``./``."""
    if not member.isreg() or member.name.removeprefix("./") != MEMBER:
        raise ArtifactRefusedError(
            f"the package holds {member.name!r}, {_kind(member)}: expected only "
            f"{MEMBER!r}, a regular file; models are data here, never code"
        )
    if member.issparse() or member.size > MAX_BYTES:
        raise ArtifactRefusedError(
            f"the package's {member.name!r} is sparse, or claims {member.size} bytes; "
            f"at most {MAX_BYTES} are read"
        )


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    if member.isdir():
        return "a folder"
    return "a file" if member.isreg() else "a device"
