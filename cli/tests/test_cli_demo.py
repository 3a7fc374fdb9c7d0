"""The demo's own judgement: it has to be right for the claims to mean anything."""

import io

from rich.console import Console

from kgl_cli.demo.claims import Claims, distance
from kgl_cli.demo.corpus import read_corpus

EDGES = {"a": ["b"], "b": ["c"], "d": ["c"], "x": ["y"]}


def test_a_distance_counts_the_steps_in_any_direction() -> None:
    assert distance(EDGES, "a", "a") == 0
    assert distance(EDGES, "a", "d") == 3
    assert distance(EDGES, "d", "a") == 3
    assert distance(EDGES, "a", "x") is None


def test_a_claim_that_does_not_hold_is_remembered() -> None:
    claims = Claims(Console(file=io.StringIO()))
    claims.check(True, "one")
    claims.check(False, "two")
    assert claims.failed == ["two"]


def test_the_corpus_is_that_of_the_runtime_lock_with_requirements_inside_of_it() -> None:
    corpus = {package.name: package for package in read_corpus()}
    assert len(corpus) > 90
    assert "pytest" not in corpus
    assert "starlette" in corpus["fastapi"].requires
    assert all(other in corpus for package in corpus.values() for other in package.requires if package.readme)
    assert sum(len(package.readme) for package in corpus.values()) > 500_000
