"""Every error that Retrodict raises on purpose.

    RetrodictError
    ├── PermanentError                 the input is wrong; retrying cannot help
    │   ├── ContractDefinitionError    an event class or field is declared wrongly
    │   ├── FeatureDefinitionError     a feature or feature set is declared wrongly
    │   ├── PipelineDefinitionError    a pipeline package is declared wrongly
    │   ├── StateFormatError           stored state cannot be read by this code
    │   ├── EventFormatError           a stamped event cannot be read by this code
    │   │   └── UpcastError                there is no way from its schema version
    │   ├── LogConflictError           one position of the log holds two events
    │   ├── IncompleteRebuildError     a part of the keys was not rebuilt
    │   ├── KernelNotLoadedError       the compiled fold is of another machine or code
    │   ├── ProjectionNotVerifiedError nothing says yet that it equals the log
    │   ├── ImportFileError            a dropped file cannot be read as its type
    │   ├── RecordTooLargeError        a stream takes no record of that size
    │   ├── UndeliveredFormatError     what a mapping gave up cannot be read whole
    │   ├── DecisionRefusedError       a decision does not follow from those before
    │   ├── ForestFormatError          it is no isolation forest that can be walked
    │   ├── UnequalForestError         flat trees score unlike their estimator
    │   ├── TrainingRowsError          the rows asked for are not rows
    │   ├── MissingFeatureError        a feature that a model reads has no value
    │   └── ArtifactRefusedError       a package or artifact must not be loaded
    │       ├── WrongDigestError           it is not what its digest says
    │       └── IncompatibleArtifactError  it was trained on another definition
    ├── StateConflictError             another writer was first; reload, fold again
    ├── StreamConflictError            another decision was first; reload, decide again
    └── TransientError                 a dependency did not answer; back off, retry
        ├── StreamUnavailableError
        ├── StoreUnavailableError
        ├── StillUndeliveredError      a function failed again on what was given up
        └── EndpointBusyError          an endpoint is changing; look again later

Class names are public: the Lambda runtime reports them as ``errorType``, and
state machines and alarms match them.
"""


class RetrodictError(Exception):
    """Root of the hierarchy; catch it only at the edge."""


class PermanentError(RetrodictError):
    """The same input will fail the same way; send it to a person."""


class TransientError(RetrodictError):
    """The same input may succeed later; send it to the retry policy."""


class ContractDefinitionError(PermanentError):
    """An event class or one of its fields is declared wrongly."""


class FeatureDefinitionError(PermanentError):
    """A feature or a feature set is declared wrongly."""


class TrainingRowsError(PermanentError):
    """What a training set was asked for cannot be read as rows of keys and times."""


class PipelineDefinitionError(PermanentError):
    """A pipeline package is declared wrongly."""


class StateFormatError(PermanentError):
    """Stored state was written by code that is newer or by something else."""


class EventFormatError(PermanentError):
    """A stamped event on the wire or in the log is not one of ours."""


class UpcastError(EventFormatError):
    """An event cannot be lifted from its schema version to the newest one."""


class LogConflictError(PermanentError):
    """One position of the log holds two different events; nothing was touched."""


class KernelNotLoadedError(PermanentError):
    """There is a compiled fold, but this machine or this code cannot use it."""


class IncompleteRebuildError(PermanentError):
    """The parts of a distributed rebuild are not all there."""


class ProjectionNotVerifiedError(PermanentError):
    """A projection may be half filled: nobody has verified that it equals the log."""


class ImportFileError(PermanentError):
    """A file in the import bucket cannot be read as what its name says it is."""


class RecordTooLargeError(PermanentError):
    """A stream takes no record of that size, now or later; all others are on it.

    Attributes
    ----------
    stream_name
        Name of the stream.
    places
        Which of the records that were put, 0 for the first, shape (n,), n > 0.
    """

    def __init__(self, stream_name: str, places: tuple[int, ...]) -> None:
        super().__init__(stream_name, places)
        self.stream_name = stream_name
        self.places = places

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.places[:10]))
        return (
            f"{len(self.places)} records are larger than stream {self.stream_name!r} "
            f"takes, at places {shown} of those that were put: all others are on it; "
            "send these cut smaller, for they will never be taken"
        )


class UndeliveredFormatError(PermanentError):
    """What an event source mapping gave up is not there whole; nothing was touched."""


class DecisionRefusedError(PermanentError):
    """A decision does not follow from those that were recorded before it."""


class ForestFormatError(PermanentError):
    """What should be an isolation forest is none, or a row of one cannot be walked."""


class UnequalForestError(PermanentError):
    """The flat trees give other scores than the estimator they were made of."""


class MissingFeatureError(PermanentError):
    """A feature that the model reads has no value.

    Attributes
    ----------
    name
        Of the feature.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"feature {self.name!r} has no value"


class ArtifactRefusedError(PermanentError):
    """A package or an artifact must not be loaded; the sentence says why."""


class WrongDigestError(ArtifactRefusedError):
    """The content is not what its digest says."""


class IncompatibleArtifactError(ArtifactRefusedError):
    """The artifact was trained on another pipeline or definition of its features."""


class StreamUnavailableError(TransientError):
    """A stream refused records even after its retries."""


class StoreUnavailableError(TransientError):
    """A store refused a read or a write even after its retries."""


class StillUndeliveredError(TransientError):
    """A function failed on a batch that its mapping gave up; the batch is kept."""


class EndpointBusyError(TransientError):
    """An endpoint is being created, updated or deleted; nothing can be done with it."""


class StateConflictError(RetrodictError):
    """The state of a key changed between the read and the conditional put.

    Attributes
    ----------
    entity
        Partition key of the item in the online store. It is no part of the sentence:
        sentences end in logs, and whose key it is is nobody's business there.
    """

    def __init__(self, entity: str) -> None:
        super().__init__(entity)
        self.entity = entity

    def __str__(self) -> str:
        return (
            "the state of a key was written by another invocation since it was read: "
            "reload it and fold again"
        )


class StreamConflictError(RetrodictError):
    """A stream of decisions moved between the read and the append.

    Attributes
    ----------
    stream_id
        Stream that was being appended to.
    expected
        Version the writer had read, 0 for an empty stream.
    """

    def __init__(self, stream_id: str, expected: int) -> None:
        super().__init__(stream_id, expected)
        self.stream_id = stream_id
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"stream {self.stream_id!r} is not at version {self.expected} any more: "
            "another decision came first; read the stream and decide again"
        )
