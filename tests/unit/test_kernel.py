"""A compiled fold that cannot be used says so, and what to run."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from retrodict import kernel
from retrodict.errors import KernelNotLoadedError

from infra import build_kernel

REMEDY = r"run `python -m infra\.build_kernel`"


@pytest.fixture(scope="module")
def of_another_machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that is sound, but not here."""
    path = tmp_path_factory.mktemp("kernel") / "fold.so"
    here = build_kernel.target_of("linux", platform.machine())
    other = "aarch64" if here.startswith("x86_64") else "x86_64"
    source = path.with_name("empty.c")
    source.write_text("int retrodict_fold(void) { return 0; }")
    subprocess.run(
        [
            sys.executable, "-m", "ziglang", "cc", "-target",
            f"{other}-linux-gnu.2.28", "-shared", "-o", str(path), str(source),
        ],
        env=os.environ | {"ZIG_LOCAL_CACHE_DIR": str(path.parent)},
        check=True,
    )  # fmt: skip
    return path


def test_a_library_of_another_machine_is_refused_with_a_remedy(
    of_another_machine: Path,
) -> None:
    with pytest.raises(KernelNotLoadedError, match=REMEDY) as caught:
        kernel.loaded(of_another_machine)

    assert str(of_another_machine) in str(caught.value)
    assert platform.machine() in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"no library", b"\x7fELF" + bytes(60)])
def test_a_damaged_library_is_refused_with_a_remedy(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "fold.so"
    path.write_bytes(raw)

    with pytest.raises(KernelNotLoadedError, match=REMEDY):
        kernel.loaded(path)


def test_a_library_that_is_not_there_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(KernelNotLoadedError, match=REMEDY):
        kernel.loaded(tmp_path / "fold.so")


def test_a_library_of_older_code_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = ("retrodict_of_tomorrow", (), None)
    monkeypatch.setattr(kernel, "_FUNCTIONS", (*kernel._FUNCTIONS, added))  # noqa: SLF001

    with pytest.raises(KernelNotLoadedError, match=r"retrodict_of_tomorrow.*run"):
        kernel.loaded(kernel.library_path())
