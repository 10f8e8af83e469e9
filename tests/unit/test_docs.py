"""What the documents say of the repository is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/what-exact-means.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda found: str(found)[-60:])
def test_a_promise_names_a_test_that_is_there(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text())

    assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_every_promise_names_its_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| Promise")]

    assert len(promises) > 30
    assert [
        row for row in promises if "`tests/" not in row and "`make" not in row
    ] == []


@pytest.mark.parametrize(
    "page", ["README.md", *map(str, (ROOT / "docs").rglob("*.md"))]
)
def test_links_between_documents_lead_somewhere(page: str) -> None:
    file = ROOT / page
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text())

    assert [t for t in targets if not (file.parent / t).exists()] == []
