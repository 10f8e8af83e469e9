"""Put each defect into a copy of the repository, and see the tests catch it.

Run with ``make mutants``; names after it choose some of them. Ends with 1 when one
survives, or when a line of the list is not in the code any more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from tests.mutants.catalog import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("cli", "events", "functions", "infra", "layers", "tests", "pyproject.toml")
KERNEL = "layers/core/python/retrodict/_kernel"
WORKERS = 2
LONGEST_SECONDS = 900


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


def test(mutant: Mutant | None, folder: Path) -> tuple[str | None, float]:
    """Return the first test that fails in a copy, None if all pass, and the seconds.

    Tests that come to no end tell of no defect; it is said that they were stopped.
    """
    began = time.perf_counter()
    tests = mutant.tests if mutant else sorted({t for m in MUTANTS for t in m.tests})
    command = ["pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
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
        return None, time.perf_counter() - began
    failed = [
        line.split(" ")[1].partition("::")[2]
        for line in run.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    if run.returncode and not failed:
        sys.exit(f"pytest did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return (failed[0] if run.returncode else None), time.perf_counter() - began


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
        failed, _ = test(None, sound)
        copies.put(sound)
        if failed is not None:
            sys.exit(f"{failed} fails without any defect: mend it first")

        def tried(mutant: Mutant) -> bool:
            folder = copies.get()
            try:
                with defect(mutant, folder):
                    caught, seconds = test(mutant, folder)
            finally:
                copies.put(folder)
            said = f"caught by {caught}" if caught else "SURVIVED"
            print(f"{seconds:5.1f} s  {mutant.name}: {said}", flush=True)
            return caught is not None

        with ThreadPoolExecutor(WORKERS) as pool:
            caught = sum(pool.map(tried, chosen))
    print(f"{caught} of {len(chosen)} mutants caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
