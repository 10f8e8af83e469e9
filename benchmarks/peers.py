"""Run a benchmark in an environment of its own, where the peers are installed.

The product is never installed beside a peer: `enter` makes `.bench-venv` when it is not
there, or was made for other requirements, and starts the program again in it.
"""

import argparse
import gc
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

Named = TypeVar("Named")

ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / ".bench-venv"
REQUIREMENTS: Final = (
    ROOT / "requirements.lock",
    ROOT / "benchmarks/requirements.txt",
)
RESULTS: Final = ROOT / "out/bench"
RUNS: Final = 5
ONE_THREAD: Final = {
    "ARROW_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
}


def enter() -> None:
    """Go on only inside the peers' environment, on one core; else start again there."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        install(VENV, REQUIREMENTS)
        layers = [
            ROOT / f"layers/{n}/python" for n in ("core", "adapters", "pipelines")
        ]
        paths = os.pathsep.join(map(str, (ROOT, *layers)))
        python = str(VENV / "bin/python")
        os.execve(  # noqa: S606 - this program again, no shell
            python, [python, *sys.argv], os.environ | ONE_THREAD | {"PYTHONPATH": paths}
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def install(venv: Path, requirements: Sequence[Path]) -> None:
    """Make an environment, unless it is there for exactly these requirements.

    Raises
    ------
    SystemExit
        There is no uv to make it with.
    """
    wanted = hashlib.sha256(
        b"".join(path.read_bytes() for path in requirements)
    ).hexdigest()
    mark = venv / "installed-for.txt"
    if mark.exists() and mark.read_text() == wanted:
        return
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not installed: run make setup")
    print(f"installing the peers into {venv.name}, once", file=sys.stderr, flush=True)
    steps = (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(venv)],
        [uv, "pip", "install", "-q", "--compile-bytecode"]
        + [part for path in requirements for part in ("-r", str(path))],
    )
    for step in steps:
        subprocess.run(  # noqa: S603 - uv, with our own files
            step, check=True, env={**os.environ, "VIRTUAL_ENV": str(venv)}
        )
    mark.write_text(wanted)


def medians_s(
    acts: Mapping[Named, Callable[[], object]], runs: int = RUNS, *, again: bool = False
) -> dict[Named, float]:
    """Return the median time of the processor for each of `acts`, seconds.

    They take turns, so that a machine that slows down for a while slows all of them,
    and time that the machine gave to others is nobody's. What one leaves for the
    collector of garbage is collected before the next begins.

    Parameters
    ----------
    again
        Let each go twice a turn and count the second time: the first is also about
        what the one before it left in the caches, and of memory.
    """
    times: dict[Named, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    gc.collect()
    gc.freeze()
    for _ in range(runs):
        for name, act in acts.items():
            gc.collect()
            if again:
                act()
            began = time.process_time()
            act()
            times[name].append(time.process_time() - began)
    gc.unfreeze()
    return {name: statistics.median(taken) for name, taken in times.items()}


def machine() -> dict[str, str]:
    """Return what the figures depend on, beside the code."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def print_table(
    title: str, unit: str, rates: Mapping[str, float], ours: Sequence[str]
) -> None:
    """Print the rate of each peer, ours beside it, and ours divided by theirs."""
    print(f"\n{title}, {unit}")
    for own in ours:
        print(f"{'peer':<46}{'peer':>10}{'ours':>10}{'ratio':>9}   ({own})")
        for name, rate in rates.items():
            if name not in ours:
                ratio = rates[own] / rate
                print(f"{name:<46}{rate:>10,.0f}{rates[own]:>10,.0f}{ratio:>9.2f}")


def write_results(name: str, tables: Mapping[str, Any]) -> None:
    """Keep the figures as JSON under ``out/bench``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**machine(), **tables}, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(ROOT)}")


def main() -> None:
    """Make the environment, so that a first benchmark need not wait for it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    install(VENV, REQUIREMENTS)
    print(VENV.relative_to(ROOT))


if __name__ == "__main__":
    main()
