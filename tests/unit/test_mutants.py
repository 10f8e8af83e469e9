"""The list of mutants fits the code that it is about; ``make mutants`` runs it."""

import json
from pathlib import Path

import pytest

from tests.mutants.catalog import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_the_line_of_a_mutant_is_in_the_code_once(mutant: Mutant) -> None:
    code = (ROOT / mutant.path).read_text(encoding="utf-8")

    assert code.count(mutant.line) == 1
    assert mutant.defect != mutant.line
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests)


def test_every_mutant_has_a_name_of_its_own_and_only_mutants_are_remembered() -> None:
    names = {mutant.name for mutant in MUTANTS}
    caught = (ROOT / "tests/mutants/caught_by.json").read_text(encoding="utf-8")

    assert len(names) == len(MUTANTS)
    assert json.loads(caught).keys() <= names
