"""The folders are the architecture: what each may import is a rule, not a habit."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "layers/core/python/retrodict"
PIPELINES = ROOT / "layers/pipelines/python/pipelines"
IMPURE = {"os", "random", "secrets", "socket", "subprocess", "time", "urllib", "uuid"}
HOT = ["validate_records", "write_features"]
IN_BULK = {
    "arrow_events", "bulk", "bulk_states", "derived_columns", "merging",
    "point_in_time", "reuse", "table_digest", "training_build",
}  # fmt: skip
PURE_PACKAGES = {"msgspec"}
TRAINING_PACKAGES = {"numpy", "sklearn"}
COLD_PACKAGES = {"awswrangler", "pandas", "pyarrow", "sklearn", "sagemaker"}


def imports(module: Path) -> set[str]:
    tree = ast.parse(module.read_text())
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", sorted(CORE.rglob("*.py")), ids=lambda p: p.stem)
def test_the_core_is_pure(module: Path) -> None:
    allowed = (sys.stdlib_module_names - IMPURE) | {"retrodict", *PURE_PACKAGES}
    allowed |= {"numpy", "polars", "pyarrow"} if module.stem in IN_BULK else set()

    assert imports(module) <= allowed


@pytest.mark.parametrize("module", sorted(CORE.rglob("*.py")), ids=lambda p: p.stem)
def test_the_core_never_asks_the_time(module: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert not calls & {"now", "utcnow", "today", "time_ns", "monotonic"}


@pytest.mark.parametrize(
    "module", sorted(PIPELINES.rglob("*.py")), ids=lambda p: p.stem
)
def test_a_pipeline_knows_only_the_core(module: Path) -> None:
    allowed = sys.stdlib_module_names | {"retrodict", "pipelines"}

    assert imports(module) - TRAINING_PACKAGES <= allowed


def test_importing_a_pipeline_loads_nothing_that_only_its_fit_needs() -> None:
    paths = [str(CORE.parent), str(PIPELINES.parent)]
    program = (
        f"import sys; sys.path[:0] = {paths!r}\n"
        "from retrodict.pipeline import load_pipelines\n"
        "assert load_pipelines()\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert not set(done.stdout.split()) & (TRAINING_PACKAGES | COLD_PACKAGES)


@pytest.mark.parametrize(
    "module", sorted((ROOT / "functions").rglob("*.py")), ids=lambda p: p.parent.name
)
def test_a_function_reaches_aws_only_through_adapters(module: Path) -> None:
    assert not imports(module) & {"boto3", "botocore", "awswrangler"}


@pytest.mark.parametrize(
    "module",
    sorted((ROOT / "functions").rglob("handler.py")),
    ids=lambda p: p.parent.name,
)
def test_a_handler_says_who_calls_it_and_what_it_needs(module: Path) -> None:
    promise = ast.get_docstring(ast.parse(module.read_text())) or ""

    for section in ("Invoked by", "Reads, then", "Fails with", "Environment variables"):
        assert section in promise
