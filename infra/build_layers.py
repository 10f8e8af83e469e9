"""Build the dependency layers, without Docker, into trees that Lambda on arm64 loads.

``python -m infra.build_layers`` installs what each ``requirements.lock`` pins into
``layers/dependencies/<name>/python``, removes what no function runs, and compiles
the rest. Every package is a wheel whose hash is in the lock; nothing is executed.
A tree that is up to date is left alone.

``--check`` builds nothing and fails if a tree is missing or out of date: run it before
a deployment. ``--lock`` pins the newest versions that the repository's own
``requirements.lock`` allows, so that what is tested is what is deployed.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LAYERS = REPOSITORY / "layers" / "dependencies"
PYTHON_VERSION = "3.12"
PLATFORM = "aarch64-manylinux_2_28"

_TREE = "python"
_STAMP = ".built-from"
# Folders and files that a wheel brings and no function reads. libarrow_substrait
# stays: pyarrow's own library is linked to it. Flight is a server's protocol.
_UNUSED = (
    "**/tests",
    "**/include",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.pyx",
    "*-stubs",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/_flight*",
    "bin",
)


class LayerError(Exception):
    """A dependency layer cannot be built, or is not what its lock file says."""


def names() -> tuple[str, ...]:
    """Return the names of the dependency layers, sorted."""
    return tuple(sorted(path.parent.name for path in LAYERS.glob("*/requirements.txt")))


def recipe(folder: Path) -> str:
    """Return the digest of what decides a layer's tree: its lock and this script."""
    digest = hashlib.sha256()
    for source in (folder / "requirements.lock", Path(__file__)):
        content = source.read_bytes()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def is_built(folder: Path) -> bool:
    """Tell whether the tree in `folder` was built by this script from its lock."""
    stamp = folder / _TREE / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == recipe(folder)


def asset_hash(folder: Path, *, with_tree: bool) -> str:
    """Return the name of the layer's asset, the same on every machine.

    An asset without its tree has another name, so that a synth for a test can neither
    be deployed as the layer nor be found by a later deployment.
    """
    holds = "the tree" if with_tree else "only the lock"
    return hashlib.sha256(f"{holds} of {recipe(folder)}".encode("ascii")).hexdigest()


def build(folder: Path) -> None:
    """Bring the tree of the layer in `folder` up to date."""
    if is_built(folder):
        _say(f"{folder.name}: up to date, {_mebibytes(folder / _TREE)}")
        return
    shutil.rmtree(folder / _TREE, ignore_errors=True)
    unfinished = folder / _TREE
    _uv(
        "pip", "install", "--quiet",
        "--target", str(unfinished),
        "--requirements", str(folder / "requirements.lock"),
        "--require-hashes",
        "--no-deps",
        "--only-binary", ":all:",
        "--python-platform", PLATFORM,
        "--python-version", PYTHON_VERSION,
        "--link-mode", "copy",
    )  # fmt: skip
    _prune(unfinished)
    compiled = _compile(unfinished)
    (unfinished / _STAMP).write_text(recipe(folder), encoding="ascii")
    _say(
        f"{folder.name}: built, {_mebibytes(unfinished)}"
        + ("" if compiled else f", not compiled: no Python {PYTHON_VERSION} found")
    )


def check(folders: Iterable[Path]) -> None:
    """Refuse to go on unless every tree is built and up to date.

    Raises
    ------
    LayerError
        It names the layers that are not.
    """
    if stale := [folder.name for folder in folders if not is_built(folder)]:
        raise LayerError(
            f"dependency layers {', '.join(stale)} are not built from their lock "
            "files: run 'python -m infra.build_layers'"
        )


def lock(folder: Path) -> None:
    """Pin the packages of the layer in `folder`, with the hashes of their wheels."""
    _uv(
        "pip", "compile", "--quiet", "--upgrade",
        "--output-file", str(folder / "requirements.lock"),
        "--generate-hashes",
        "--no-annotate",
        "--custom-compile-command", "python -m infra.build_layers --lock",
        "--constraints", str(REPOSITORY / "requirements.lock"),
        "--only-binary", ":all:",
        "--python-platform", PLATFORM,
        "--python-version", PYTHON_VERSION,
        str(folder / "requirements.txt"),
    )  # fmt: skip


def size_bytes(tree: Path) -> int:
    """Return what `tree` counts against Lambda's limit, in bytes."""
    return sum(
        path.stat().st_size
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _mebibytes(tree: Path) -> str:
    return f"{size_bytes(tree) / 2**20:.0f} MiB"


def _prune(tree: Path) -> None:
    for pattern in _UNUSED:
        for path in sorted(tree.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def _compile(tree: Path) -> bool:
    """Compile `tree` and return whether an interpreter of the right version was there.

    Lambda mounts layers read-only and so never caches bytecode: a tree without it
    triples the time to import. Bytecode that is checked against nothing is the same
    on every machine.
    """
    interpreter = _interpreter()
    if interpreter is None:
        return False
    _run(
        [
            interpreter, "-m", "compileall", "-q", "-j", "0",
            "--invalidation-mode", "unchecked-hash",
            # What a traceback shows: where Lambda mounts the layer.
            "-s", str(tree), "-p", "/opt/python",
            str(tree),
        ]
    )  # fmt: skip
    return True


def _interpreter() -> str | None:
    asked = (
        "import sys; print('.'.join(map(str, sys.version_info[:2])), sys.executable)"
    )
    candidates = [
        sys.executable,
        shutil.which(f"python{PYTHON_VERSION}"),
        *_pyenv_interpreters(),
        _uv_interpreter(),
    ]
    for candidate in filter(None, candidates):
        answer = subprocess.run(  # noqa: S603 - an interpreter of this machine
            [candidate, "-c", asked], capture_output=True, text=True, check=False
        )
        version, _, executable = answer.stdout.strip().partition(" ")
        if answer.returncode == 0 and version == PYTHON_VERSION:
            return executable
    return None


def _pyenv_interpreters() -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = root.glob(f"versions/{PYTHON_VERSION}*/bin/python")
    return [str(path) for path in sorted(found)]


def _uv_interpreter() -> str | None:
    answer = subprocess.run(  # noqa: S603 - the locked uv, fixed arguments
        [_uv_program(), "python", "find", "--no-python-downloads", PYTHON_VERSION],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None


def _uv_program() -> str:
    beside = Path(sys.executable).parent / "uv"
    program = str(beside) if beside.is_file() else shutil.which("uv")
    if program is None:
        raise LayerError(
            "building a layer needs uv, which is neither beside this Python nor on "
            "PATH: run 'make setup'"
        )
    return program


def _uv(*arguments: str) -> None:
    _run([_uv_program(), *arguments])


def _run(command: Sequence[str]) -> None:
    finished = subprocess.run(command, check=False)  # noqa: S603 - built above
    if finished.returncode != 0:
        raise LayerError(
            f"{Path(command[0]).name} ended with exit code {finished.returncode}: "
            f"{' '.join(command)}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check or lock the layers that `arguments` name, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m infra.build_layers")
    parser.description = (__doc__ or "").partition("\n")[0]
    parser.add_argument("names", nargs="*", metavar="NAME", help="a layer; default all")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="only tell what is stale")
    action.add_argument("--lock", action="store_true", help="pin versions anew")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(names()):
        parser.error(
            f"no layer {', '.join(sorted(unknown))}; there are {', '.join(names())}"
        )
    folders = [LAYERS / name for name in options.names or names()]
    try:
        if options.check:
            check(folders)
        else:
            for folder in folders:
                (lock if options.lock else build)(folder)
    except LayerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
