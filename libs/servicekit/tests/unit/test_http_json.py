import re
from typing import Any

import pytest

from kgl_servicekit.http.strict_json import MalformedJson, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, true, null, "x"]}', {"a": [1, -2.5, True, None, "x"]}),
        ('"é\\u00e9\\ud83d\\ude00"', "éé😀"),
        ('"\\\\u0000 is written \\\\ud800"', "\\u0000 is written \\ud800"),
        (str(2**63), 2**63),
        ("[" * 100 + "]" * 100, None),
        (" \n1 ", 1),
    ],
)
def test_json_is_read_as_it_is(text: str, value: Any) -> None:
    parsed = parse_json(text.encode())
    assert parsed == value or value is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"{'a': 1}", "Expecting property name"),
        (b"[1,]", "Expecting value|trailing comma"),
        (b"1 2", "Extra data"),
        (b'{"a": NaN}', "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e400", "too large"),
        (b"-1e999", "too large"),
        (b"9" * 100_000, "40 characters"),
        (b"0." + b"9" * 100_000, "40 characters"),
        (b'{"a": 1, "b": 2, "a": 3}', "same name"),
        (b'{"a": 1, "\\u0061": 3}', "same name"),
        (b'[{"x": {"a": 1, "a": 1}}]', "same name"),
        (b"[" * 101 + b"]" * 101, "deeper"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "deeper"),
        (b"[" * 10_000 + b"]" * 10_000, "deeper"),
        (b"[" * 1_000_000, "deeper|Expecting"),
        (b"\xff\xfe1", "UTF-8"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"a\\u0000b"', "U\\+0000"),
        (b'"a\\\\\\u0000b"', "U\\+0000"),
        (b'"a\x00b"', "control character"),
        (b'"\n"', "control character"),
    ],
)
def test_what_parsers_disagree_about_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse_json(raw)
    assert re.search(reason, refused.value.reason), refused.value.reason


def test_an_object_of_a_million_members_is_refused() -> None:
    raw = b"{" + b",".join(b'"%d":0' % number for number in range(1_000_000)) + b"}"
    with pytest.raises(MalformedJson) as refused:
        parse_json(raw)
    assert "10000 members" in refused.value.reason
