"""The life of a signing key."""

from datetime import UTC, datetime, timedelta

import pytest

from kgl_auth.domain.key_schedule import LONGEST_TOKEN, PUBLISHED_BEFORE, KeyTimes, active, ends, published, state_of
from kgl_auth.settings import AuthSettings
from kgl_servicekit.identity.jwks import FRESH_SECONDS, RETRY_SECONDS

AT = datetime(2026, 11, 1, tzinfo=UTC)
SIGNS = AT + PUBLISHED_BEFORE
OLD = KeyTimes(
    kid="old", created_at=AT - timedelta(days=30), signs_from=AT - timedelta(days=30), expires_at=ends(SIGNS)
)
NEW = KeyTimes(kid="new", created_at=AT, signs_from=SIGNS)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("at", "states"),
    [
        (AT, {"new": "next", "old": "active"}),
        (SIGNS - SECOND, {"new": "next", "old": "active"}),
        (SIGNS, {"new": "active", "old": "retiring"}),
        (SIGNS + LONGEST_TOKEN, {"new": "active", "old": "retiring"}),
        (ends(SIGNS), {"new": "active"}),
    ],
)
def test_a_key_is_next_then_active_then_retiring_then_gone(at: datetime, states: dict[str, str]) -> None:
    for keys in ([OLD, NEW], [NEW, OLD]):
        assert {key.kid: state_of(key, keys, at) for key in published(keys, at)} == states
        assert [key.kid for key in published(keys, at)] == list(states)


def test_the_only_key_signs_even_by_a_clock_that_is_behind() -> None:
    assert active([NEW], AT - timedelta(minutes=1)) is NEW
    with pytest.raises(LookupError):
        active([], AT)
    with pytest.raises(LookupError):
        active([OLD], ends(SIGNS))


def test_a_key_is_published_for_longer_than_verifiers_go_without_asking() -> None:
    ring, cached_answer = 30, 300
    assert PUBLISHED_BEFORE.total_seconds() > FRESH_SECONDS + RETRY_SECONDS + ring + cached_answer


def test_no_token_can_live_longer_than_the_key_that_signed_it() -> None:
    limits = AuthSettings.model_fields["access_token_seconds"].metadata
    assert max(getattr(limit, "le", 0) for limit in limits) == LONGEST_TOKEN.total_seconds()
