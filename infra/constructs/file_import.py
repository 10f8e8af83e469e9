"""Files that are dropped in a bucket, handed to a function one by one."""

from aws_cdk import aws_events as events
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.event_calls import EventCalls
from infra.constructs.import_bucket import ImportBucket
from infra.constructs.pipeline_function import PipelineFunction


class FileImport(Construct):
    """A rule that calls `function` for every new object of `imports`.

    The message of a call that failed names the object, so a file can be dropped again.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        imports: ImportBucket,
        function: PipelineFunction,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        imports.grant_read(function.role)
        calls = EventCalls(
            self, "Calls", description="A dropped file was not imported", alarms=alarms
        )
        events.Rule(
            self,
            "NewFiles",
            description="A file was dropped in the import bucket",
            event_pattern=imports.new_objects,
            targets=[calls.of("Import", function)],
        )
