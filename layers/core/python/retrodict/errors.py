"""Every error that Retrodict raises on purpose.

    RetrodictError
    ├── PermanentError                 the input is wrong; retrying cannot help
    │   ├── ContractDefinitionError    an event class or field is declared wrongly
    │   ├── FeatureDefinitionError     a feature or feature set is declared wrongly
    │   ├── PipelineDefinitionError    a pipeline package is declared wrongly
    │   ├── StateFormatError           stored state cannot be read by this code
    │   ├── EventFormatError           a stamped event cannot be read by this code
    │   └── ImportFileError            a dropped file cannot be read as its type
    ├── StateConflictError             another writer was first; reload, fold again
    └── TransientError                 a dependency did not answer; back off, retry
        ├── StreamUnavailableError
        └── StoreUnavailableError

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


class PipelineDefinitionError(PermanentError):
    """A pipeline package is declared wrongly."""


class StateFormatError(PermanentError):
    """Stored state was written by code that is newer or by something else."""


class EventFormatError(PermanentError):
    """A stamped event on the wire or in the log is not one of ours."""


class ImportFileError(PermanentError):
    """A file in the import bucket cannot be read as what its name says it is."""


class StreamUnavailableError(TransientError):
    """A stream refused records even after its retries."""


class StoreUnavailableError(TransientError):
    """A store refused a read or a write even after its retries."""


class StateConflictError(RetrodictError):
    """The state of a key changed between the read and the conditional put.

    Attributes
    ----------
    entity
        Partition key of the item in the online store.
    """

    def __init__(self, entity: str) -> None:
        super().__init__(entity)
        self.entity = entity

    def __str__(self) -> str:
        return (
            f"the state of {self.entity!r} was written by another invocation since "
            "it was read: reload it and fold again"
        )
