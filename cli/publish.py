"""Write the published contracts of every pipeline under ``events/``.

A version that is published is never changed: raise the version instead. The tests
hold the files equal to the code.
"""

from pathlib import Path
from typing import Final

import click
from retrodict.contracts import published
from retrodict.pipeline import load_catalog

EVENTS: Final = Path(__file__).parents[1] / "events"


def main() -> None:
    """Write schema and golden example of each current contract version."""
    for event in load_catalog().contracts.values():
        for name, text in published(event).items():
            path = EVENTS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            click.echo(path.relative_to(EVENTS.parent))


if __name__ == "__main__":
    main()
