"""Step Functions state machines."""

import json
import re
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Site, creates
from infra.local.state_machine_definition import (
    KIND,
    check_definition,
    without_distribution,
)
from infra.local.template import Created

_NAME_LIMIT = 80
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9]+)\}")


@creates(
    KIND,
    {
        "DefinitionS3Location": {"Bucket": APPLIED, "Key": APPLIED},
        "DefinitionString": APPLIED,
        "DefinitionSubstitutions": APPLIED,
        "LoggingConfiguration": Inert("the history of an execution can be read"),
        "RoleArn": APPLIED,
        "StateMachineName": APPLIED,
        "StateMachineType": Only(("STANDARD",)),
        "Tags": TAGS,
        "TracingConfiguration": Inert("nothing here is traced"),
    },
)
def state_machine(site: Site, properties: dict[str, Any]) -> Created:
    """Create a state machine whose definition holds no open substitution."""
    name = properties.get("StateMachineName") or site.name(limit=_NAME_LIMIT)
    text = properties.get("DefinitionString")
    if text is None:
        where = properties["DefinitionS3Location"]
        answer = site.client("s3").get_object(Bucket=where["Bucket"], Key=where["Key"])
        text = answer["Body"].read().decode()
    known = properties.get("DefinitionSubstitutions", {})

    def fill(match: re.Match[str]) -> str:
        if match.group(1) not in known:
            raise site.refuse(KIND, f"the open substitution {match.group(0)}")
        return json.dumps(str(known[match.group(1)]))[1:-1]

    definition = _SUBSTITUTION.sub(fill, text)
    program = json.loads(definition)
    check_definition(program, str(site.resource))
    definition = json.dumps(without_distribution(program))
    arn = site.client("stepfunctions").create_state_machine(
        name=name, definition=definition, roleArn=properties["RoleArn"]
    )["stateMachineArn"]
    return Created(arn, {"Arn": arn, "Name": name})
