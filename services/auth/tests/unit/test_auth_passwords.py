"""Rules of passwords, and their hashes."""

import asyncio

import pytest

from kgl_auth.domain.password_hashing import HashCost, hash_password, is_outdated, is_password
from kgl_auth.domain.passwords import LONGEST, SHORTEST, weakness
from kgl_auth.stores.password_checker import PasswordChecker

CHEAP = HashCost(passes=1, memory_kib=64)


@pytest.mark.parametrize(
    "password",
    ["x" * (SHORTEST - 1), "x" * (LONGEST + 1), "ada@example.com", " ADA@example.com ", " " * 12, ""],
)
def test_a_weak_password_is_told_why(password: str) -> None:
    assert weakness(password, "ada@example.com") is not None


@pytest.mark.parametrize(
    "password", ["x" * SHORTEST, "x" * LONGEST, "pass phrase with ada@example.com", "ünïcödé wörds"]
)
def test_a_good_password_is_taken(password: str) -> None:
    assert weakness(password, "ada@example.com") is None


def test_a_hash_is_salted_argon2id_and_knows_its_password_alone() -> None:
    first, second = hash_password("a long password", CHEAP), hash_password("a long password", CHEAP)
    assert first.startswith("$argon2id$")
    assert first != second
    assert is_password("a long password", first)
    assert not is_password("A long password", first)
    assert not is_password("a long password", "no hash at all")


def test_two_keyboards_that_type_the_same_word_agree() -> None:
    assert is_password("cafe\u0301 au lait", hash_password("caf\u00e9 au lait", CHEAP))


def test_a_hash_of_another_cost_still_verifies_and_is_outdated() -> None:
    old = hash_password("a long password", CHEAP)
    assert is_password("a long password", old)
    assert is_outdated(old, HashCost(passes=2, memory_kib=64))
    assert not is_outdated(old, CHEAP)


async def test_an_unknown_account_is_refused_whatever_is_typed() -> None:
    checker = PasswordChecker(CHEAP)
    verdicts = await asyncio.gather(*(checker.check("a long password", None) for _ in range(8)))
    assert not any(verdict.right for verdict in verdicts)


async def test_a_right_password_brings_a_newer_hash_when_the_cost_has_changed() -> None:
    stored = hash_password("a long password", HashCost(passes=1, memory_kib=32))
    verdict = await PasswordChecker(CHEAP).check("a long password", stored)
    assert verdict.right
    assert verdict.newer_hash is not None
    assert not is_outdated(verdict.newer_hash, CHEAP)
    assert (await PasswordChecker(CHEAP).check("a wrong password", stored)).newer_hash is None
    assert (await PasswordChecker(CHEAP).check("a long password", verdict.newer_hash)).newer_hash is None
