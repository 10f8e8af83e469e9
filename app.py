"""Synthesise every environment of ``cdk.json``: no lookups, no network, no clock."""

import os

from infra.node import choose_node

choose_node()

from infra.settings import REPOSITORY  # noqa: E402
from infra.stacks.environment import build_app  # noqa: E402 - Node is chosen first

build_app(os.environ.get("CDK_OUTDIR", str(REPOSITORY / "cdk.out"))).synth()
