"""Entities that are known by their form: licences, technologies, standards, organisations, addresses.

Persons and e-mail addresses are left out on purpose: they are personal data, and no form tells them surely.
Every expression is linear in the length of the text: whatever repeats is bounded.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kgl_reader.rules.model import Occurrence
from kgl_reader.rules.words import ENGLISH

LICENSE = "license"
ORGANISATION = "organisation"
REPOSITORY = "repository"
STANDARD = "standard"
TECHNOLOGY = "technology"
WEBSITE = "website"

_TECHNOLOGIES = """
    Ada|Android|Ansible|Apache Kafka|AWS|Azure|C#|C++|Clojure|COBOL|CPython|CSS|CUDA|Cython|Dart|Debian|Django|
    Docker|Elasticsearch|Elixir|Erlang|F#|FastAPI|Flask|Fortran|FreeBSD|GraphQL|gRPC|Haskell|HTML|iOS|Java|
    JavaScript|Keycloak|Kotlin|Kubernetes|Linux|Lua|macOS|MariaDB|MATLAB|MicroPython|MongoDB|MySQL|.NET|nginx|
    Node.js|NumPy|OCaml|Objective-C|OpenTelemetry|Perl|PHP|PostgreSQL|PowerShell|PyPy|Python|PyTorch|RabbitMQ|
    Redis|Ruby|Rust|Scala|scikit-learn|Solaris|SPARQL|SQL|SQLite|TensorFlow|Terraform|TypeScript|Ubuntu|
    Weaviate|WebAssembly|Windows|Zig"""
_OTHER_SPELLINGS = {
    "Golang": "Go",
    "Postgres": "PostgreSQL",
    "NodeJS": "Node.js",
    "K8s": "Kubernetes",
    "Mac OS X": "macOS",
    "MacOS": "macOS",
}
_LICENSES = {
    "MIT": r"MIT[ -][Ll]icen[sc]ed?|(?<=[Ll]icense: )MIT|(?<=under the )MIT",
    "Apache-2.0": r"Apache[ -](?:(?:Software )?Licen[sc]e(?:,? (?:[Vv](?:ersion )?)?2(?:\.0)?(?!\.?\d))?"
    r"|[Vv]?2(?:\.0)?(?!\.?\d)(?: [Ll]icen[sc]e)?)",
    "BSD-3-Clause": r"BSD[ -]3(?:[ -][Cc]lause)?|3-[Cc]lause BSD|(?:New|Modified) BSD",
    "BSD-2-Clause": r"BSD[ -]2(?:[ -][Cc]lause)?|2-[Cc]lause BSD|Simplified BSD",
    "BSD": r"BSD[ -][Ll]icen[sc]ed?",
    "ISC": r"ISC[ -][Ll]icen[sc]ed?",
    "MPL-2.0": r"MPL[ -]?[Vv]?2(?:\.0)?|Mozilla Public License(?:,? (?:[Vv](?:ersion |\. ?)?)?2(?:\.0)?)?",
    "EPL-2.0": r"EPL[ -]?2(?:\.0)?|Eclipse Public License(?: -)?(?:,? v?2(?:\.0)?)?",
    "PSF-2.0": r"PSF-2\.0|PSF [Ll]icen[sc]e|Python Software Foundation License",
    "BSL-1.0": r"BSL-1\.0|Boost Software License",
    "Unlicense": r"Unlicense",
    "CC0-1.0": r"CC0(?:[ -]1\.0)?",
    "Zlib": r"[Zz]lib [Ll]icen[sc]e",
}
_NOT_OWNERS = re.compile(
    r"about|advisories|apps|codespaces|collections|customer-stories|enterprise|explore|features|issues|login"
    r"|marketplace|notifications|orgs|organizations|pricing|pulls|search|security|settings|sponsors|stars|team"
    r"|topics|trending|users",
    re.IGNORECASE,
)
_NOT_SITES = re.compile(
    r"(?:.+\.)?example\.(?:com|net|org)|github\.com|(?:img\.)?shields\.io|badge\.fury\.io|badgen\.net"
)
_NOT_DOMAINS = (".example", ".invalid", ".local", ".localhost", ".test")
_LONGEST_NAME = 200
_IMAGE = (".svg", ".png", ".gif", ".jpg", ".jpeg", ".webp", ".ico")


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression whose group `surface` names an entity, and how the name is made of the match.

    `name` returns the entity's name, or None where the match is no entity after all.
    """

    type: str
    pattern: re.Pattern[str]
    name: Callable[[re.Match[str]], str | None]


def occurrences(text: str) -> list[Occurrence]:
    """Return where entities are named by form, in the order of the rules and the text."""
    return [found for rule in RULES for found in _apply(rule, text)]


def _apply(rule: Rule, text: str) -> Iterator[Occurrence]:
    for match in rule.pattern.finditer(text):
        name = rule.name(match)
        if name and len(name) <= _LONGEST_NAME:
            start, end = match.span("surface")
            yield Occurrence(name, rule.type, start, end)


def _license(match: re.Match[str]) -> str:
    return next(name for name in _LICENSES if match[_group(name)])


def _group(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _gnu(match: re.Match[str]) -> str:
    family = (match["family"] or match["word"] or "")[:1].upper()
    version = match["short"] or match["long"]
    if not version:
        return f"{family}GPL"
    return f"{family}GPL-{version if '.' in version else version + '.0'}"


def _creative_commons(match: re.Match[str]) -> str:
    return "-".join(["CC-BY", *match["terms"].replace("-", " ").upper().split(), match["version"]])


def _standard(match: re.Match[str]) -> str | None:
    number = int(match["number"])
    return f"{match['body'].upper()} {number}" if number else None


def _repository(match: re.Match[str]) -> str | None:
    if _NOT_OWNERS.fullmatch(match["owner"]) or match["image"]:
        return None
    return f"{match['owner']}/{match['name']}"


def _website(match: re.Match[str]) -> str | None:
    host = match["surface"].lower()
    address = match["path"].partition("?")[0].lower()
    if not host.rpartition(".")[2].isalpha() or _NOT_SITES.fullmatch(host) or host.endswith(_NOT_DOMAINS):
        return None
    return None if address.endswith(_IMAGE) or "badge" in address else host


_TECHNOLOGY_NAMES = {name.strip(): name.strip() for name in _TECHNOLOGIES.split("|")} | _OTHER_SPELLINGS
_NOT_FIRST = "|".join(sorted({"Copyright", *(word.capitalize() for word in ENGLISH)}))
_NAME_WORD = r"[A-ZÀ-Þ](?:[\w&'’-]|\.(?=\w)){0,30}"

RULES: tuple[Rule, ...] = (
    Rule(
        LICENSE,
        re.compile(
            r"(?<![\w-])(?P<surface>(?:"
            + "|".join(f"(?P<{_group(name)}>{pattern})" for name, pattern in _LICENSES.items())
            + r")(?: [Ll]icen[sc]e)?)(?![\w-])"
        ),
        _license,
    ),
    Rule(
        LICENSE,
        re.compile(
            r"(?<![\w-])(?P<surface>(?P<family>[AL])?GPL(?:[ -]?[Vv]?(?P<short>[23](?:\.[01])?)(?!\.?\d))?"
            r"(?:\+|-only|-or-later)?"
            r"|GNU (?P<word>Affero |Lesser |Library )?General Public License"
            r"(?:,? (?:[Vv](?:ersion )?)?(?P<long>[23](?:\.[01])?)(?!\.?\d))?)(?![\w-])"
        ),
        _gnu,
    ),
    Rule(
        LICENSE,
        re.compile(r"\b(?P<surface>CC[ -]BY(?P<terms>(?:[ -](?:SA|NC|ND)){0,2})[ -](?P<version>\d\.\d))\b"),
        _creative_commons,
    ),
    Rule(
        TECHNOLOGY,
        re.compile(
            r"(?<![\w./@-])(?P<surface>"
            + "|".join(re.escape(name) for name in sorted(_TECHNOLOGY_NAMES, key=lambda name: (-len(name), name)))
            + r")(?![\w+#-]|\.\w)"
        ),
        lambda match: _TECHNOLOGY_NAMES[match["surface"]],
    ),
    Rule(
        STANDARD,
        re.compile(r"\b(?P<surface>(?P<body>PEP|RFC|pep|rfc|Pep)[ -]?(?P<number>\d{1,5}))\b"),
        _standard,
    ),
    Rule(
        REPOSITORY,
        re.compile(
            r"\bgithub\.com[/:](?P<surface>(?P<owner>[A-Za-z0-9][A-Za-z0-9-]{0,38})"
            r"/(?P<name>[\w.-]{0,98}?[\w-]))(?=\.git\b|\.?(?![\w.-]))(?P<image>[^\s)\]>\"']{0,200}(?:badge|\.svg))?"
        ),
        _repository,
    ),
    Rule(
        WEBSITE,
        re.compile(
            r"\bhttps?://(?:[^\s/@<>\"']{1,100}@)?(?:www\.)?(?P<surface>[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"
            r"(?P<path>[^\s)\]>\"'`]{0,500})"
        ),
        _website,
    ),
    Rule(
        ORGANISATION,
        re.compile(
            rf"(?<![\w.'’-])(?=[A-ZÀ-Þ])(?!(?:{_NOT_FIRST})\b)(?P<surface>(?:{_NAME_WORD},?[ \n]){{1,4}}"
            r"(?:Inc|LLC|Ltd|GmbH|Corp|Corporation|Foundation|Consortium|University|Institute)"
            r"|University of [A-ZÀ-Þ]\w{1,30})(?!\w)"
        ),
        lambda match: " ".join(match["surface"].split()),
    ),
)
