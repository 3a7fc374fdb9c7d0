"""The hash chain of the audit log."""

import math
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_auth.domain.audit_chain import GENESIS, ChainedRecord, ChainHead, canonical, link, storable, verify

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef\0", max_size=3), inner, max_size=3),
    max_leaves=10,
)


def chain(length: int) -> tuple[list[ChainedRecord], ChainHead]:
    records, head = [], ChainHead()
    for number in range(1, length + 1):
        record = {"action": f"act-{number}", "details": {"n": number}}
        made = ChainedRecord(number=number, prev_hash=head.hash, hash=link(head.hash, record), record=record)
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
    records[number - 1] = replace(records[number - 1], record={"action": "other"})
    broken = verify(records, head)
    assert broken is not None
    assert broken.number == number


def test_an_edited_record_with_a_new_hash_breaks_the_next() -> None:
    records, head = chain(5)
    record = {"action": "other"}
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
    extra = {"action": "inserted"}
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
