"""Proof Key for Code Exchange."""

import pytest

from kgl_auth.domain.pkce import challenge_of, is_challenge, new_verifier, proves


def test_the_example_of_the_standard_holds() -> None:
    # RFC 7636, appendix B
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert challenge_of(verifier) == challenge
    assert proves(verifier, challenge)


def test_a_new_verifier_proves_its_own_challenge_alone() -> None:
    mine, other = new_verifier(), new_verifier()
    assert mine != other
    assert is_challenge(challenge_of(mine))
    assert proves(mine, challenge_of(mine))
    assert not proves(other, challenge_of(mine))


@pytest.mark.parametrize("verifier", ["", "x" * 42, "x" * 129, "ü" * 43, "x" * 42 + "\n", "x" * 42 + " "])
def test_what_is_no_verifier_proves_nothing(verifier: str) -> None:
    assert not proves(verifier, challenge_of(verifier))


@pytest.mark.parametrize("text", ["", "x" * 42, "x" * 44, "x" * 42 + "=", "x" * 42 + "\n"])
def test_what_is_no_challenge_is_refused(text: str) -> None:
    assert not is_challenge(text)
