"""The wire of SageMaker's control plane: JSON in, JSON out, AWS's errors.

Requests are checked twice before anything happens. First against botocore's own model
of the service, as AWS does: required members, types, lengths, ranges, patterns and
enumerations, all of it answered with one ValidationException. Then against the *shape*
of what the twin reproduces (see `resources.registry`): a member beyond it is valid in
AWS, but would silently have no effect here, so it is answered with 501
``UnsupportedByTwin`` by name.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any, TypeAlias

import botocore.session
from botocore.model import Shape as ModelShape

from infra.local.errors import UnsupportedByTwinError
from infra.local.resources.registry import Shape, beyond

SERVICE = "sagemaker"
TARGET = "SageMaker."

Answer: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
Operation: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

# Java's character classes in the patterns of the model, as Python writes them.
_CLASSES = {
    r"\p{ASCII}": r"\x00-\x7f",
    r"\p{Print}": r"\x20-\x7e",
    r"\p{L}\p{Z}\p{N}": r"\w\s",
    r"\p{L}\p{M}\p{Z}\p{N}\p{P}": r"\s\S",
    r"\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}": r"\s\S",
}


class ApiError(Exception):
    """An error that the caller gets as AWS would send it.

    Parameters
    ----------
    code
        For example ``ValidationException``.
    message
        AWS's sentence.
    status
        HTTP status.
    fields
        Further members of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = HTTPStatus.BAD_REQUEST,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message, status)
        self.code, self.message, self.status = code, message, int(status)
        self.fields = dict(fields or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def invalid(message: str) -> ApiError:
    """Return a ValidationException."""
    return ApiError("ValidationException", message)


def unsupported(error: UnsupportedByTwinError) -> ApiError:
    """Return what the caller gets for a feature that the twin refuses."""
    return ApiError("UnsupportedByTwin", str(error), HTTPStatus.NOT_IMPLEMENTED)


@dataclass(frozen=True)
class _Registered:
    shape: Mapping[str, Shape]
    run: Operation


class ControlPlane:
    """The operations of SageMaker that the twin answers itself.

    Parameters
    ----------
    refused
        Names of operations that nobody answers.
    """

    def __init__(self, refused: frozenset[str]) -> None:
        self._refused = refused
        self._operations: dict[str, _Registered] = {}

    def register(self, name: str, shape: Mapping[str, Shape], run: Operation) -> None:
        """Answer the operation `name` with `run`."""
        self._operations[name] = _Registered(shape, run)

    def answer(self, name: str, body: bytes) -> Answer | None:
        """Run an operation; None if it is not answered here."""
        if name not in self._operations and name not in self._refused:
            return None
        try:
            status, content = int(HTTPStatus.OK), self._run(name, body)
        except ApiError as error:
            status = error.status
            content = {
                "__type": error.code,
                "message": error.message,
                **error.fields,
            }
        except UnsupportedByTwinError as error:
            refused = unsupported(error)
            status = refused.status
            content = {"__type": refused.code, "message": refused.message}
        return (
            status,
            [
                ("Content-Type", "application/x-amz-json-1.1"),
                ("x-amzn-RequestId", str(uuid.uuid4())),
            ],
            json.dumps(content, default=_as_json).encode(),
        )

    def _run(self, name: str, body: bytes) -> dict[str, Any]:
        if name in self._refused:
            raise UnsupportedByTwinError(name, "SageMaker", "this operation")
        request = json.loads(body or b"{}")
        check(name, request)
        operation = self._operations[name]
        for path in beyond(operation.shape, request, ""):
            raise UnsupportedByTwinError(name, "SageMaker", f"the member {path}")
        return operation.run(request)


def check(name: str, request: Mapping[str, Any]) -> None:
    """Check a request against botocore's model of SageMaker.

    Raises
    ------
    ApiError
        As AWS words it, if anything is wrong.
    """
    model = _service().operation_model(name)
    wrong = list(_wrong(model.input_shape, request, ""))
    if wrong:
        raise invalid(
            f"{len(wrong)} validation error{'s' if len(wrong) > 1 else ''} detected: "
            + "; ".join(wrong)
        )


@cache
def _service() -> Any:
    return botocore.session.get_session().get_service_model(SERVICE)


def _wrong(shape: ModelShape, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        yield from _wrong_structure(shape, value, path)
    elif shape.type_name == "list":
        yield from _wrong_length(shape, value, path)
        for index, item in enumerate(value):
            yield from _wrong(shape.member, item, f"{path}.{index + 1}.member")
    elif shape.type_name == "map":
        yield from _wrong_length(shape, value, path)
        for key, item in value.items():
            yield from _wrong(shape.key, key, path)
            yield from _wrong(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _wrong_string(shape, value, path)
    elif shape.type_name in {"integer", "long", "float", "double"}:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield _failed(value, path, "Member must be a number")
        else:
            yield from _wrong_range(shape, value, path)


def _wrong_structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _failed(value, path, "Member must be a structure")
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _failed(None, _join(path, name), "Member must not be null")
    for name, item in value.items():
        if name in shape.members and item is not None:
            yield from _wrong(shape.members[name], item, _join(path, name))


def _wrong_string(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _failed(value, path, "Member must be a string")
        return
    yield from _wrong_length(shape, value, path)
    if shape.enum and value not in shape.enum:
        allowed = f"[{', '.join(shape.enum)}]"
        yield _failed(value, path, f"Member must satisfy enum value set: {allowed}")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(_python(pattern), value, re.DOTALL):
        yield _failed(
            value, path, f"Member must satisfy regular expression pattern: {pattern}"
        )


def _wrong_length(shape: Any, value: Any, path: str) -> Iterator[str]:
    smallest, largest = shape.metadata.get("min"), shape.metadata.get("max")
    if smallest is not None and len(value) < smallest:
        yield _failed(
            value, path, f"Member must have length greater than or equal to {smallest}"
        )
    if largest is not None and len(value) > largest:
        yield _failed(
            value, path, f"Member must have length less than or equal to {largest}"
        )


def _wrong_range(shape: Any, value: float, path: str) -> Iterator[str]:
    smallest, largest = shape.metadata.get("min"), shape.metadata.get("max")
    if smallest is not None and value < smallest:
        yield _failed(
            value, path, f"Member must have value greater than or equal to {smallest}"
        )
    if largest is not None and value > largest:
        yield _failed(
            value, path, f"Member must have value less than or equal to {largest}"
        )


def _failed(value: Any, path: str, constraint: str) -> str:
    shown = "Value null" if value is None else f"Value '{value}'"
    return f"{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


@cache
def _python(pattern: str) -> str:
    for java in sorted(_CLASSES, key=len, reverse=True):
        pattern = pattern.replace(java, _CLASSES[java])
    return pattern.replace(r"\z", r"\Z")


def _as_json(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"expected JSON, got {value!r}")


@dataclass(frozen=True)
class Listing:
    """What the List operations have in common: filter, order and pages.

    Attributes
    ----------
    answer
        Name of the list in the answer, for example ``Endpoints``.
    name, status
        Members of a summary that hold its name and its status.
    """

    answer: str
    name: str
    status: str | None = None

    def pick(
        self, request: Mapping[str, Any], summaries: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return one page of what `request` asks for."""
        wanted = [
            summary
            for summary in summaries
            if request.get("NameContains", "") in summary[self.name]
            and (
                self.status is None
                or request.get("StatusEquals", summary[self.status])
                == summary[self.status]
            )
        ]
        by_name = request.get("SortBy") == "Name"
        wanted.sort(
            key=lambda summary: summary[self.name if by_name else "CreationTime"],
            reverse=request.get("SortOrder", "Descending") == "Descending",
        )
        begin = int(request.get("NextToken", 0))
        end = begin + int(request.get("MaxResults", 100))
        page = {self.answer: wanted[begin:end]}
        return page | ({"NextToken": str(end)} if end < len(wanted) else {})
