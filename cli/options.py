"""The options that every command shares."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from retrodict.pipeline import Pipeline, load_pipelines

from cli.target import Target, choose

Command = Callable[..., Any]


def json_option(command: Command) -> Command:
    """Add ``--json``; the command gets ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON for a program to read."
    )(command)


def target_options(command: Command) -> Command:
    """Add the choice of a deployment; the command gets ``target``."""

    @click.option("--aws", is_flag=True, help="Talk to AWS instead of the local twin.")
    @click.option("--profile", help="AWS profile; implies --aws.")
    @click.option("--region", help="AWS region; implies --aws.")
    @click.option(
        "--env",
        "environment",
        default="dev",
        show_default=True,
        help="Environment on AWS.",
    )
    @wraps(command)
    def with_target(
        *args: Any,
        aws: bool,
        profile: str | None,
        region: str | None,
        environment: str,
        **kwargs: Any,
    ) -> Any:
        target: Target = choose(environment, aws=aws, profile=profile, region=region)
        return command(*args, target=target, **kwargs)

    return with_target


class PipelineName(click.ParamType[Pipeline]):
    """The name of a pipeline, read into the pipeline."""

    name = "pipeline"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002 - click's signature
    ) -> Pipeline:
        """Return the pipeline called `value`, or fail with the names there are."""
        if isinstance(value, Pipeline):
            return value
        pipelines = load_pipelines()
        if value not in pipelines:
            self.fail(
                f"no pipeline is called {value!r}; there is {', '.join(pipelines)}"
            )
        return pipelines[value]
