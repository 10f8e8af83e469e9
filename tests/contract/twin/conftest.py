"""One twin a test, stopped with all its processes whatever happens."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from infra.local.twin import Twin
from tests.contract.twin.assembly import write_assembly

Start = Callable[..., Twin]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a twin of the given resources, in one stack, and code."""
    running: list[Twin] = []

    def start_twin(  # noqa: PLR0913 - what tests differ in
        resources: Mapping[str, Any],
        code: Mapping[str, Mapping[str, str]] | None = None,
        *,
        images: Mapping[str, Mapping[str, str]] | None = None,
        outputs: Mapping[str, Any] | None = None,
        real_time: bool = False,
        start_at: datetime | None = None,
    ) -> Twin:
        template = {"Resources": resources, "Outputs": outputs or {}}
        folder = write_assembly(tmp_path / "cdk.out", {"App": template}, code, images)
        running.append(
            Twin.start(folder, "dev", real_time=real_time, start_at=start_at)
        )
        return running[0]

    yield start_twin
    for twin in running:
        twin.stop()
