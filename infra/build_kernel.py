"""Compile the fold over columns, for this machine and for Lambda, without Docker.

``python -m infra.build_kernel`` compiles ``layers/core/kernel/*.c`` with the C
compiler of the locked `ziglang` wheel, which needs nothing else of the machine and
makes the same bytes everywhere. ``--lambda`` adds the library that Lambda on arm64
loads. What is up to date is left alone.
"""

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from retrodict.kernel import FOLDER, library_path

_KERNEL = Path(__file__).resolve().parents[1] / "layers/core/kernel"
SOURCES = sorted(_KERNEL.glob("*.c"))
HEADERS = sorted(_KERNEL.glob("*.h"))
LAMBDA = FOLDER / "fold-linux-aarch64.so"
FLAGS = (
    "-std=c11", "-O3", "-g0", "-fPIC", "-shared", "-fno-math-errno",
    # Exactness needs each operation as it is written.
    "-ffp-contract=off", "-fno-sanitize=undefined",
)  # fmt: skip
_TARGETS = {"linux": "linux-gnu.2.28", "darwin": "macos", "win32": "windows-gnu"}


class KernelError(Exception):
    """The fold cannot be compiled."""


def target_of(system: str, machine: str) -> str:
    """Return what the compiler calls a platform.

    Examples
    --------
    >>> target_of("linux", "arm64")
    'aarch64-linux-gnu.2.28'
    """
    names = {"arm64": "aarch64", "amd64": "x86_64"}
    machine = names.get(machine.lower(), machine.lower())
    if system not in _TARGETS:
        raise KernelError(f"the fold was never compiled for {system!r}")
    return f"{machine}-{_TARGETS[system]}"


def recipe(target: str) -> str:
    """Return the digest of what decides a library's bytes."""
    parts = (
        *(s.read_text() for s in SOURCES + HEADERS),
        target,
        version("ziglang"),
        *FLAGS,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def build(path: Path, target: str) -> bool:
    """Bring the library at `path` up to date, and return whether it was not.

    Raises
    ------
    KernelError
        The compiler refused.
    """
    stamp = path.with_suffix(".built-from")
    wanted = recipe(target)
    if path.exists() and stamp.exists() and stamp.read_text() == wanted:
        return False
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        finished = Path(cache) / path.name
        command = [
            sys.executable, "-m", "ziglang", "cc", "-target", target, *FLAGS,
            "-s", "-o", str(finished), *map(str, SOURCES),
        ]  # fmt: skip
        places = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        answer = subprocess.run(  # noqa: S603 - the locked compiler, our own source
            command,
            env=os.environ | places,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise KernelError(f"{target}: {answer.stderr.strip()}")
        # Who has loaded the library keeps the file that it was.
        beside = path.with_suffix(".new")
        beside.write_bytes(finished.read_bytes())
        beside.replace(path)
    stamp.write_text(wanted)
    return True


def main() -> None:
    """Compile what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lambda", dest="for_lambda", action="store_true")
    arguments = parser.parse_args()
    wanted = {library_path(): target_of(sys.platform, platform.machine())}
    if arguments.for_lambda:
        wanted[LAMBDA] = target_of("linux", "aarch64")
    for path, target in wanted.items():
        state = "built" if build(path, target) else "up to date"
        sys.stdout.write(
            f"{path.name}: {state}, {path.stat().st_size / 1024:.0f} KiB\n"
        )


if __name__ == "__main__":
    main()
