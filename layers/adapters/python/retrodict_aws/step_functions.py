"""A state machine, started by name so that starting it twice is starting it once."""

import json
from collections.abc import Mapping
from typing import Any

from retrodict.errors import StoreUnavailableError

from retrodict_aws.clients import AWS_ERRORS, error_code


class StateMachine:
    """`Workflow` over Step Functions."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        """Start one execution; see `Workflow.start`."""
        try:
            self._client.start_execution(
                stateMachineArn=self._arn,
                name=name,
                input=json.dumps(document, sort_keys=True),
            )
        except AWS_ERRORS as error:
            if error_code(error) != "ExecutionAlreadyExists":
                raise StoreUnavailableError(
                    f"state machine {self._arn!r} refused to start {name!r}: "
                    f"{error_code(error)}"
                ) from error
