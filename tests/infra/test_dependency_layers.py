"""Layers hold what was locked, for the machine that runs it, within Lambda's limit.

The first run downloads the packages; afterwards the trees are up to date.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from infra.build_layers import (
    LAYERS,
    LayerError,
    asset_hash,
    build,
    check,
    is_built,
    names,
    size_bytes,
)
from infra.settings import REPOSITORY
from tests.infra.conftest import Assembly

LIMIT_BYTES = 262_144_000


@pytest.fixture(scope="module")
def built() -> list[Path]:
    folders = [LAYERS / name for name in names()]
    for folder in folders:
        build(folder)
    return folders


def test_each_function_fits_into_lambda_with_its_layers(
    assembly: Assembly, built: list[Path]
) -> None:
    folder_of = {
        layer.logical_id: REPOSITORY
        / str(layer.properties["Description"]).removeprefix("Retrodict: ")
        for layer in assembly.resources("AWS::Lambda::LayerVersion", environment="dev")
    }
    for function in assembly.resources("AWS::Lambda::Function", environment="dev"):
        code = REPOSITORY / str(function.properties["Description"]).removeprefix(
            "Retrodict dev: "
        )
        layers = [folder_of[layer["Ref"]] for layer in function.properties["Layers"]]

        assert len(layers) == 4
        assert sum(map(size_bytes, [code, *layers])) < LIMIT_BYTES, function


def test_trees_are_built_for_lambda_on_arm64(
    assembly: Assembly, built: list[Path]
) -> None:
    for function in assembly.resources("AWS::Lambda::Function"):
        assert function.properties["Architectures"] == ["arm64"]
        assert function.properties["Runtime"] == "python3.12"
    for folder in built:
        libraries = [path.name for path in folder.rglob("*.cpython-*.so")]

        assert libraries
        assert all("cpython-312-aarch64" in name for name in libraries), folder


def test_the_hot_layer_has_no_data_frames(built: list[Path]) -> None:
    holds = {path.name for path in (LAYERS / "hot" / "python").iterdir()}

    assert {"aws_lambda_powertools", "boto3", "msgspec"} <= holds
    assert not holds & {"awswrangler", "numpy", "pandas", "pyarrow", "sklearn"}


def test_arrow_keeps_the_library_it_is_linked_to(built: list[Path]) -> None:
    for name in ("arrow", "dataframe"):
        libraries = {
            path.name.split(".")[0]
            for path in (LAYERS / name / "python" / "pyarrow").glob("lib*.so*")
        }

        assert "libarrow_substrait" in libraries
        assert "libarrow_flight" not in libraries


def test_a_built_layer_passes_the_check_before_a_deployment(built: list[Path]) -> None:
    check(built)


def test_a_layer_whose_lock_has_changed_does_not_pass(
    built: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "hot"
    (folder / "python").mkdir(parents=True)
    shutil.copy(LAYERS / "hot" / "python" / ".built-from", folder / "python")
    lock = (LAYERS / "hot" / "requirements.lock").read_bytes()
    (folder / "requirements.lock").write_bytes(lock)
    assert is_built(folder)

    (folder / "requirements.lock").write_bytes(lock + b"\n")

    with pytest.raises(LayerError, match="layers hot are not built from their lock"):
        check([folder])


def test_an_asset_is_named_after_its_lock_and_never_after_its_tree(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "any"
    folder.mkdir()
    (folder / "requirements.lock").write_text("a==1", encoding="utf-8")
    before = asset_hash(folder, with_tree=True)

    (folder / "python").mkdir()
    (folder / "python" / "a.py").touch()

    assert asset_hash(folder, with_tree=True) == before
    assert asset_hash(folder, with_tree=False) != before


def test_every_locked_package_has_its_hash_and_no_host() -> None:
    for name in names():
        text = (LAYERS / name / "requirements.lock").read_text(encoding="utf-8")
        pins = re.findall(r"^[a-z].*==.*", text, re.MULTILINE)
        hashed = re.findall(r"^[a-z].*==.*\n    --hash=sha256:", text, re.MULTILINE)

        assert len(hashed) == len(pins) > 0, name
        assert "://" not in text, name


def test_the_command_line_of_the_cdk_is_pinned_exactly() -> None:
    package = json.loads((REPOSITORY / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((REPOSITORY / "package-lock.json").read_text(encoding="utf-8"))

    assert package["devDependencies"] == {"aws-cdk": "2.1148.1"}
    assert lock["packages"]["node_modules/aws-cdk"]["version"] == "2.1148.1"
    assert "://" not in json.dumps(lock)
