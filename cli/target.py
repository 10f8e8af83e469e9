"""Which deployment a command talks to: the local twin, or an account on AWS.

By default the twin that ``retrodict up`` started. ``--aws``, ``--profile`` or
``--region`` choose AWS; ``AWS_ENDPOINT_URL`` names another endpoint, as everywhere.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import boto3
import click
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from retrodict.stamps import from_datetime, to_text
from retrodict_aws.clients import CONFIG

STATE_FILE: Final = Path(".retrodict/twin.json")


class TargetError(click.ClickException):
    """There is no such deployment; the sentence says how to get one."""

    exit_code = 2


def twin_state() -> dict[str, Any] | None:
    """Return what the running twin wrote about itself, or None if none runs."""
    try:
        state: dict[str, Any] = json.loads(STATE_FILE.read_text())
        os.kill(state["pid"], 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return state


def ask_twin(
    endpoint_url: str,
    path: str,
    *,
    method: str = "GET",
    timeout: float = 600,
    body: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Call the twin's own door beside the AWS ones.

    Raises
    ------
    TargetError
        Nothing answers there, or what answers is no twin.
    """
    request = Request(  # noqa: S310 - a local address
        f"{endpoint_url}/_retrodict/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
    )
    try:
        with urlopen(request, timeout=timeout) as answer:  # noqa: S310 - the same
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as error:
        said = json.loads(error.read() or b"{}").get("error", str(error))
        raise TargetError(f"the twin refuses: {said}") from error
    except (URLError, OSError, ValueError) as error:
        raise TargetError(f"no twin answers at {endpoint_url}: {error}") from error


@dataclass(frozen=True)
class Target:
    """A deployment, and how to reach it.

    Attributes
    ----------
    endpoint_url
        Where every AWS call goes; None for AWS itself.
    is_twin
        Whether the twin answers there.
    """

    environment: str
    endpoint_url: str | None
    is_twin: bool
    profile: str | None = None
    region: str | None = None

    @cached_property
    def _twin(self) -> dict[str, Any]:
        return ask_twin(self.endpoint_url or "", "status")

    @cached_property
    def _session(self) -> boto3.Session:
        if not self.is_twin:
            return boto3.Session(profile_name=self.profile, region_name=self.region)
        return boto3.Session(
            aws_access_key_id="twin",
            aws_secret_access_key="twin",  # noqa: S106 - the twin takes any
            region_name=self._twin["region"],
        )

    def client(self, service: str, config: Config = CONFIG) -> Any:
        """Return a boto3 client of `service` for this deployment."""
        return self._session.client(
            service, endpoint_url=self.endpoint_url, config=config
        )

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """Names of the deployed resources, as the stacks export them.

        Raises
        ------
        TargetError
            The environment is not deployed, or AWS refuses to tell.
        """
        if self.is_twin:
            told: Mapping[str, str] = self._twin["outputs"]
            return told
        found: dict[str, str] = {}
        for part in ("State", "Compute", "Learning"):
            stack = f"Retrodict-{self.environment}-{part}"
            try:
                answer = self.client("cloudformation").describe_stacks(StackName=stack)
            except (BotoCoreError, ClientError) as error:
                raise TargetError(
                    f"cannot read stack {stack}: {error}; deploy it with `make deploy "
                    f"ENV={self.environment}`, or drop --aws to use the local twin"
                ) from error
            found |= {
                output["OutputKey"]: output["OutputValue"]
                for output in answer["Stacks"][0].get("Outputs", [])
            }
        return found

    def now_us(self) -> int:
        """Return the deployment's time, microseconds: the twin's, or the machine's."""
        if not self.is_twin:
            return time.time_ns() // 1_000
        told = ask_twin(self.endpoint_url or "", "status")["clock"]["now"]
        return from_datetime(datetime.fromisoformat(told))

    def advance_to(self, instant_us: int) -> None:
        """Move the twin's driven clock forward; one that is there already stays.

        Raises
        ------
        TargetError
            The target is no twin with a driven clock.
        """
        if not self.is_twin:
            raise TargetError("only the twin's clock can be moved")
        if instant_us > self.now_us():
            ask_twin(
                self.endpoint_url or "",
                "advance",
                method="POST",
                body={"to": to_text(instant_us)},
            )

    def wait_idle(self, timeout_s: float = 600, *, drive: bool = True) -> None:
        """Wait until the twin has nothing left to do; on AWS return at once.

        Parameters
        ----------
        drive
            Move the driven clock to what is due next whenever nothing else is left.

        Raises
        ------
        TargetError
            The twin was still busy after `timeout_s`.
        """
        if not self.is_twin:
            return
        ask_twin(
            self.endpoint_url or "",
            f"idle?timeout={timeout_s:.0f}&drive={drive:d}",
            method="POST",
            timeout=timeout_s + 30,
        )


def choose(
    environment: str, *, aws: bool, profile: str | None, region: str | None
) -> Target:
    """Return the deployment that the options and the environment name.

    Raises
    ------
    TargetError
        No twin runs, and AWS was not asked for.
    """
    endpoint_url = os.environ.get("AWS_ENDPOINT_URL")
    if aws or profile or region:
        return Target(
            environment, endpoint_url, is_twin=False, profile=profile, region=region
        )
    if endpoint_url:
        return Target(environment, endpoint_url.rstrip("/"), is_twin=True)
    state = twin_state()
    if state is None:
        raise TargetError(
            "no twin is running here: start one with `retrodict up --detach`, or name "
            "an account with --aws, --profile or --region"
        )
    return Target(state["environment"], state["endpoint_url"], is_twin=True)
