from collections.abc import Callable

import pytest

from kgl_client.document import Chunk, KnownEntity
from kgl_reader.rules.extract import extract, summarise
from kgl_reader.rules.gazetteer import Gazetteer
from kgl_reader.rules.markup import blanked, readable
from kgl_reader.rules.patterns import RULES, occurrences
from kgl_reader.rules.summary import NothingToSummariseError

ChunksOf = Callable[..., list[Chunk]]

HOSTILE_LENGTH = 60_000
HOSTILE_LENGTH_OF_EXPRESSIONS = 200_000
HOSTILE = [
    "[", "![](", "![](a ", "[a](", "[a](b(", "`", "`a", "`a <", "*", "_", "__a", "<!--", "<!-- -->", "<a ", "a@a", "@a",
    "a.", "....", ".a", "...x", ".)]*_\"x", "。", "漢字。", "Aa ", "A. ", "Foo, ", "Foo Inc ", "University of ",
    "http://", "https://a@", "http://a.", "github.com/a/", "github.com/a/b.", "GNU General Public License ",
    "Apache License, ", "CC BY-SA", "MIT ", "PEP 1", "a\n=\n", "- a\n", "> ", "```\n", "| a |\n", "::\n\n a\n",
    ".. a\n", " ", "\n ", "aaaa", "a ", "a-a-", "İ", "\x00",
]  # fmt: skip


def found(text: str) -> list[tuple[str, str, str]]:
    return [(one.type, one.name, text[one.start : one.end]) for one in occurrences(text)]


@pytest.mark.parametrize(
    ("text", "type_", "name", "surface"),
    [
        ("Published under the MIT license.", "license", "MIT", "MIT license"),
        ("MIT-licensed", "license", "MIT", "MIT-licensed"),
        ("License: MIT", "license", "MIT", "MIT"),
        ("licensed under the MIT or another", "license", "MIT", "MIT"),
        ("Apache License, Version 2.0", "license", "Apache-2.0", "Apache License, Version 2.0"),
        ("Apache-2.0.", "license", "Apache-2.0", "Apache-2.0"),
        ("Apache 2 license", "license", "Apache-2.0", "Apache 2 license"),
        ("BSD-3-Clause", "license", "BSD-3-Clause", "BSD-3-Clause"),
        ("3-Clause BSD License", "license", "BSD-3-Clause", "3-Clause BSD License"),
        ("BSD 2-Clause", "license", "BSD-2-Clause", "BSD 2-Clause"),
        ("BSD licensed", "license", "BSD", "BSD licensed"),
        ("ISC license", "license", "ISC", "ISC license"),
        ("MPL 2.0", "license", "MPL-2.0", "MPL 2.0"),
        ("Mozilla Public License, v. 2.0", "license", "MPL-2.0", "Mozilla Public License, v. 2.0"),
        ("GPLv3+", "license", "GPL-3.0", "GPLv3+"),
        ("LGPL-2.1-or-later", "license", "LGPL-2.1", "LGPL-2.1-or-later"),
        ("AGPL", "license", "AGPL", "AGPL"),
        ("GNU Affero General Public License v3", "license", "AGPL-3.0", "GNU Affero General Public License v3"),
        ("GNU General Public License", "license", "GPL", "GNU General Public License"),
        ("CC BY-SA 4.0", "license", "CC-BY-SA-4.0", "CC BY-SA 4.0"),
        ("CC0 1.0", "license", "CC0-1.0", "CC0 1.0"),
        ("written in C++.", "technology", "C++", "C++"),
        ("on .NET,", "technology", ".NET", ".NET"),
        ("Postgres", "technology", "PostgreSQL", "Postgres"),
        ("uses Node.js.", "technology", "Node.js", "Node.js"),
        ("see PEP-561", "standard", "PEP 561", "PEP-561"),
        ("pep-0008", "standard", "PEP 8", "pep-0008"),
        ("RFC9110", "standard", "RFC 9110", "RFC9110"),
        ("at https://github.com/py-pdf/pypdf.git here", "repository", "py-pdf/pypdf", "py-pdf/pypdf"),
        ("git@github.com:py-pdf/pypdf.", "repository", "py-pdf/pypdf", "py-pdf/pypdf"),
        ("https://github.com/a/b.c/issues?q=1", "repository", "a/b.c", "a/b.c"),
        ("(https://www.Kgl-Lab.eu/x)", "website", "kgl-lab.eu", "Kgl-Lab.eu"),
        ("https://me:secret@docs.kgl.eu:8080/", "website", "docs.kgl.eu", "docs.kgl.eu"),
        ("The Python Software Foundation", "organisation", "Python Software Foundation", "Python Software Foundation"),
        ("Copyright Anaconda, Inc.", "organisation", "Anaconda, Inc", "Anaconda, Inc"),
        ("the University of Vienna", "organisation", "University of Vienna", "University of Vienna"),
    ],
)
def test_an_entity_is_known_by_its_form(text: str, type_: str, name: str, surface: str) -> None:
    assert (type_, name, surface) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "jane.doe@kgl.eu or Jane Doe, Dr. Smith",
        "MIT is a place, and mit is German; SUMMIT License",
        "Apache 2.4 serves pages",
        "python and go and rust in lower case; Pythonic, Javanese; C, R; JavaScripts",
        "a PEP talk, PEP 0, RFC, RFC 123456, xPEP 8",
        "https://github.com/features/actions https://github.com/sponsors/someone https://github.com/",
        "https://github.com/a/b/actions/workflows/ci.yml/badge.svg",
        "https://img.shields.io/x https://kgl.eu/logo.png?x=1 https://kgl.eu/badge/1",
        "http://localhost:8080/x http://127.0.0.1/ https://example.com/ https://www.example.org https://a.example/",
        "version 1.2.3 and v2",
        "The Foundation, an Institute, and foundation work",
    ],
)
def test_what_only_looks_alike_is_no_entity(text: str) -> None:
    assert found(text) == []


def test_names_longer_than_a_name_may_be_are_left_out() -> None:
    host = ".".join(["a" * 60] * 4) + ".eu"

    assert found(f"https://{host}/") == []


def test_every_rule_says_where_the_name_stands() -> None:
    assert all("surface" in rule.pattern.groupindex for rule in RULES)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", HOSTILE)
def test_expressions_take_no_more_than_linear_time(piece: str) -> None:
    text = piece * (HOSTILE_LENGTH_OF_EXPRESSIONS // len(piece)) + "x"

    assert len(blanked(text)) == len(text)
    assert len(readable(text)) <= len(text)
    assert all(one.end <= len(text) for one in occurrences(text))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_no_more_than_linear_time(piece: str, chunks_of: ChunksOf) -> None:
    text = piece * (HOSTILE_LENGTH // len(piece)) + "x"
    names = ["a" * length for length in range(2, 100)]
    gazetteer = Gazetteer(KnownEntity(name=name, type="thing") for name in names)

    extraction = extract(chunks_of(text), gazetteer)
    try:
        summary = summarise(chunks_of(text)).text
    except NothingToSummariseError:
        summary = ""

    assert len(extraction.entities) <= 200
    assert len(summary) <= 600
