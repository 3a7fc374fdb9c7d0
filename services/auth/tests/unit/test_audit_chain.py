"""The hash chain of the audit log."""

import math
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_auth.domain.audit_chain import (
    GENESIS,
    INSTANCE,
    Broken,
    ChainedRecord,
    ChainHead,
    canonical,
    ends,
    follow,
    link,
    storable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef\0", max_size=3), inner, max_size=3),
    max_leaves=10,
)


def verify(records: list[ChainedRecord], head: ChainHead | None = None, kept: ChainHead | None = None) -> Broken | None:
    """Walk all in pages of two, as far as the end."""
    last = ChainHead()
    for first in range(0, len(records), 2):
        walked = follow(records[first : first + 2], last, kept)
        if isinstance(walked, Broken):
            return walked
        last = walked
    return ends(last, head or last, kept)


def chain(length: int) -> tuple[list[ChainedRecord], ChainHead]:
    records, head = [], ChainHead()
    for number in range(1, length + 1):
        record = {"scope": INSTANCE, "action": f"act-{number}", "details": {"n": number}}
        made = ChainedRecord(
            number=number, workspace_id=None, prev_hash=head.hash, hash=link(head.hash, record), record=record
        )
        records.append(made)
        head = ChainHead(number, made.hash)
    return records, head


def test_a_whole_chain_holds() -> None:
    assert verify([]) is None
    assert verify([], ChainHead()) is None
    assert verify(*chain(1)) is None
    assert verify(*chain(5)) is None


def test_the_first_record_follows_zeros() -> None:
    records, _ = chain(1)
    assert records[0].prev_hash == GENESIS
    assert verify([replace(records[0], prev_hash=b"\1" * 32)]) is not None


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_edited_record_is_found(number: int) -> None:
    records, head = chain(5)
    records[number - 1] = replace(records[number - 1], record={"scope": INSTANCE, "action": "other"})
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == number


def test_an_edited_record_with_a_new_hash_breaks_the_next() -> None:
    records, head = chain(5)
    record = {"scope": INSTANCE, "action": "other"}
    records[2] = replace(records[2], record=record, hash=link(records[2].prev_hash, record))
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == 4


def test_a_deleted_record_is_found() -> None:
    records, head = chain(5)
    del records[2]
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == 3


def test_a_deleted_record_is_found_even_when_the_rest_is_renumbered() -> None:
    records, head = chain(5)
    del records[2]
    broken = verify([replace(record, number=n) for n, record in enumerate(records, 1)], head)
    assert broken is not None
    assert broken.number == 3


def test_moved_records_are_found() -> None:
    records, head = chain(5)
    records[1], records[2] = records[2], records[1]
    assert verify(records, head) is not None
    renumbered = [replace(record, number=n) for n, record in enumerate(records, 1)]
    broken = verify(renumbered, head)
    assert broken is not None
    assert broken.number == 2


def test_an_inserted_record_is_found() -> None:
    records, head = chain(5)
    extra = {"scope": INSTANCE, "action": "inserted"}
    records.insert(2, replace(records[2], record=extra, hash=link(records[2].prev_hash, extra)))
    broken = verify([replace(record, number=n) for n, record in enumerate(records, 1)], head)
    assert broken is not None
    assert broken.number == 4


def test_a_cut_tail_is_found_by_the_head() -> None:
    records, head = chain(5)
    assert verify(records[:3]) is None
    broken = verify(records[:3], head)
    assert broken is not None
    assert broken.number == 4
    assert verify([], head) is not None


def test_a_record_beyond_the_head_is_found() -> None:
    records, _ = chain(5)
    _, head = chain(4)
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == 5


def test_a_log_that_was_cut_or_made_anew_with_its_head_is_found_by_a_head_that_was_kept() -> None:
    records, head = chain(5)
    kept = ChainHead(3, records[2].hash)
    assert verify(records, head, kept) is None
    assert verify(records, head, head) is None
    cut = verify(records[:2], ChainHead(2, records[1].hash), kept)
    assert cut is not None
    assert cut.number == 3
    anew = verify(records, head, ChainHead(3, b"\1" * 32))
    assert anew is not None
    assert anew.number == 3


def test_a_record_that_is_filed_under_another_workspace_is_found() -> None:
    records, head = chain(3)
    records[1] = replace(records[1], workspace_id=uuid4())
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == 2


def test_the_order_of_members_does_not_matter_and_every_value_does() -> None:
    assert canonical({"a": 1, "b": {"c": 2, "d": 3}}) == canonical({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical({"a": 1}) != canonical({"a": "1"})
    assert canonical({"a": True}) != canonical({"a": 1})


@given(JSON)
def test_what_is_stored_has_the_same_hash_when_it_is_read_back(value: Any) -> None:
    record = storable({"value": value})
    read = storable(orjson.loads(orjson.dumps(_as_a_store_writes(record))))
    assert canonical(read) == canonical({"value": value})
    assert b"\\u0000" not in canonical(record)


def _as_a_store_writes(value: Any) -> Any:
    """Numbers as Postgres gives them back: without exponent or fraction where they have none."""
    if isinstance(value, dict):
        return {name: _as_a_store_writes(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_as_a_store_writes(member) for member in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value
