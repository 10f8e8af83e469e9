"""One environment: the state, and the functions that work on it, as one stage."""

from collections.abc import Mapping
from typing import Any

from aws_cdk import App, DefaultStackSynthesizer, Stage
from constructs import Construct

from infra.settings import Settings, environments, read_context, stages_dependencies
from infra.stacks.compute import ComputeStack
from infra.stacks.learning import LearningStack
from infra.stacks.state import StateStack


class RetrodictEnvironment(Stage):
    """The stacks ``Retrodict-<env>-State``, ``-Compute`` and ``-Learning``."""

    def __init__(
        self, scope: Construct, *, settings: Settings, stage_dependencies: bool
    ) -> None:
        super().__init__(scope, f"Retrodict-{settings.name}")
        state = StateStack(self, "State", settings=settings)
        for name, stack in (("Compute", ComputeStack), ("Learning", LearningStack)):
            stack(
                self,
                name,
                settings=settings,
                state=state,
                stage_dependencies=stage_dependencies,
            )


def build_app(
    outdir: str, *, context: Mapping[str, Any] | None = None, validate: bool = True
) -> App:
    """Return the app with every environment of ``cdk.json``, ready to synthesise.

    Parameters
    ----------
    outdir
        Where the cloud assembly goes.
    context
        Entries that replace those of ``cdk.json``; the CDK command line's win.
    validate
        Whether a synth checks the templates against CloudFormation's own rules, 2 s.
    """
    app = App(
        analytics_reporting=False,
        builtin_cloud_formation_validation=validate,
        context={**read_context(), **(context or {})},
        # The command line checks the bootstrap stack; no template needs a parameter.
        default_stack_synthesizer=DefaultStackSynthesizer(
            generate_bootstrap_version_rule=False
        ),
        outdir=outdir,
    )
    effective = app.node.get_all_context()
    for settings in environments(effective):
        RetrodictEnvironment(
            app,
            settings=settings,
            stage_dependencies=stages_dependencies(effective),
        )
    return app
