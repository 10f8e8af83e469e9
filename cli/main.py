"""`retrodict`: run the pipeline here, feed it, and ask it what it knows."""

import sys

import click
from retrodict.errors import RetrodictError

from cli import (
    compact,
    explain,
    features,
    label,
    predict,
    quarantine,
    rebuild,
    report,
    retrain,
    run,
    send,
    teardown,
    twin,
    undelivered,
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88}
)
@click.version_option(package_name="retrodict")
def cli() -> None:
    """Run the event-sourced pipeline on this machine, feed it, and ask it.

    Commands talk to the local twin that `retrodict up` started. With --aws,
    --profile or --region they talk to AWS instead; AWS_ENDPOINT_URL is honoured.

    \b
    Examples
      retrodict up --detach
      retrodict send readings.csv --map time=timestamp --set sensor_id=office
      retrodict features sensor_anomaly --entity office
      retrodict retrain sensor_anomaly --reason "first model"
      retrodict predict sensor_anomaly --entity office
      retrodict report sensor_anomaly
      retrodict rebuild online --verify
      retrodict down
    """


for command in (
    twin.up,
    twin.down,
    twin.status,
    send.send,
    features.features,
    quarantine.quarantine,
    undelivered.undelivered,
    rebuild.rebuild,
    compact.compact,
    retrain.retrain,
    predict.predict,
    label.label,
    explain.explain,
    report.report,
    run.run,
    teardown.teardown,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; what a person did wrong is one sentence and exit code 2."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RetrodictError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
