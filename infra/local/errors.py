"""What the local twin can refuse, drawn as a tree.

TwinError
├── UnsupportedByTwinError   the template asks for what the twin does not run
├── AssemblyError            there is no such assembly, environment or reference
├── TwinTimeoutError         it did not come to rest in time
├── UnknownFunctionError     no function has that name
└── UnknownEndpointError     no endpoint has that name
"""


class TwinError(Exception):
    """The local twin cannot do what it was asked."""


class UnsupportedByTwinError(TwinError):
    """The template, or a caller, uses something the twin does not reproduce.

    Parameters
    ----------
    place
        Stack and logical id, or the name of what was called.
    kind
        Type of the resource, for example ``AWS::Kinesis::Stream``.
    feature
        The property path, value or type that is not understood.
    """

    def __init__(self, place: str, kind: str, feature: str) -> None:
        super().__init__(place, kind, feature)
        self.place, self.kind, self.feature = place, kind, feature

    def __str__(self) -> str:
        return (
            f"{self.place} ({self.kind}): the local twin does not understand "
            f"{self.feature}; teach it in infra/local/resources or leave it out"
        )


class AssemblyError(TwinError):
    """The cloud assembly is missing, incomplete or refers to what is not there."""


class TwinTimeoutError(TwinError):
    """The twin did not come to rest within the time it was given."""


class UnknownFunctionError(TwinError):
    """No function of the twin has that name."""


class UnknownEndpointError(TwinError):
    """No endpoint of the twin has that name."""
