"""What `make mutants` seeds has its place in the code as it is now."""

from pathlib import Path

import pytest

from tools.mutants_list import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_one_place_and_tests_that_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in (ROOT / path).read_text()
