"""Put each defect into a copy of the repository, and see the tests catch it.

Run with ``make mutants``; names after it choose some of them. Ends with 1 when one
survives, or when a line of the list is not in the code any more.

The test that caught a defect the last time is in ``caught_by.json`` and goes first;
only where it does not fail do all that the list names. What a run finds out is kept.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from tests.mutants.catalog import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("cli", "events", "functions", "infra", "layers", "tests", "pyproject.toml")
KERNEL = "layers/core/python/retrodict/_kernel"
CAUGHT_BY = Path(__file__).with_name("caught_by.json")
WORKERS = 2
LONGEST_SECONDS = 900
NOT_FOUND = 4
"""What pytest ends with where a test it was asked for is not there."""


def copy(folder: Path) -> Path:
    """Copy what tests of the core and the adapters need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "dependencies")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@contextmanager
def defect(mutant: Mutant, folder: Path) -> Iterator[None]:
    """Have the defect in a copy.

    Raises
    ------
    SystemExit
        The line is not in the file exactly once.
    """
    path = folder / mutant.path
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutant.line) != 1:
        sys.exit(
            f"{mutant.name!r}: {mutant.path} holds {sound.count(mutant.line)} times "
            f"{mutant.line!r}: bring the list up to date"
        )
    path.write_text(sound.replace(mutant.line, mutant.defect), encoding="utf-8")
    built = {p: p.read_bytes() for p in (folder / KERNEL).iterdir()}
    try:
        if path.suffix in {".c", ".h"}:
            compile_kernel(folder)
        yield
    finally:
        path.write_text(sound, encoding="utf-8")
        for library, raw in built.items():
            library.write_bytes(raw)


def compile_kernel(folder: Path) -> None:
    """Compile the fold of a copy, and no other."""
    core = str(folder / "layers/core/python")
    subprocess.run(
        [sys.executable, "-m", "infra.build_kernel"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": core},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def failing(
    tests: Sequence[str], folder: Path, *options: str, may_be_gone: bool = False
) -> str | None:
    """Return the first of some tests that fails in a copy; None if all pass.

    Tests that come to no end tell of no defect; it is said that they were stopped.
    Nor does one that may be gone from the tests, and is.
    """
    command = ["pytest", "-q", "-x", "-p", "no:cacheprovider", *options, *tests]
    try:
        run = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        print(f"stopped after {LONGEST_SECONDS} s: {' '.join(command)}", flush=True)
        return None
    if may_be_gone and run.returncode == NOT_FOUND:
        return None
    failed = [
        line.partition(" ")[2].partition(" - ")[0]
        for line in run.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    if run.returncode and not failed:
        sys.exit(f"pytest did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return failed[0] if run.returncode else None


def caught_by(mutant: Mutant, folder: Path, known: str | None) -> str | None:
    """Return a test that fails of a defect in a copy, the known one if it does."""
    first = failing([known], folder, may_be_gone=True) if known else None
    return first or failing(mutant.tests, folder)


def main(names: list[str]) -> int:
    """Test every mutant, or those of some names; return the exit code."""
    chosen = [m for m in MUTANTS if not names or m.name in names]
    with tempfile.TemporaryDirectory() as home:
        copies: Queue[Path] = Queue()
        for number in range(WORKERS):
            folder = Path(home, str(number))
            folder.mkdir()
            copies.put(copy(folder))
        sound = copies.get()
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        failed = failing(tests, sound, "-n", str(WORKERS), "--dist", "loadfile")
        copies.put(sound)
        if failed is not None:
            sys.exit(f"{failed} fails without any defect: mend it first")

        known: dict[str, str] = json.loads(CAUGHT_BY.read_text(encoding="utf-8"))

        def tried(mutant: Mutant) -> bool:
            folder = copies.get()
            began = time.perf_counter()
            try:
                with defect(mutant, folder):
                    found = caught_by(mutant, folder, known.get(mutant.name))
            finally:
                copies.put(folder)
            seconds = time.perf_counter() - began
            said = f"caught by {found.partition('::')[2]}" if found else "SURVIVED"
            print(f"{seconds:5.1f} s  {mutant.name}: {said}", flush=True)
            if found:
                known[mutant.name] = found
            return found is not None

        try:
            with ThreadPoolExecutor(WORKERS) as pool:
                caught = sum(pool.map(tried, chosen))
        finally:
            listed = {m.name: known[m.name] for m in MUTANTS if m.name in known}
            told = json.dumps(listed, indent=1) + "\n"
            CAUGHT_BY.write_text(told, encoding="utf-8")
    print(f"{caught} of {len(chosen)} mutants caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
