"""The names that a workspace knows, found in a text as whole words."""

import re
from collections import defaultdict
from collections.abc import Iterable

from kgl_client.document import KnownEntity
from kgl_reader.rules.model import Occurrence

# One character for one, so that places in the folded text are places in the text.
_FOLD = str.maketrans(
    {
        "İ": "i",
        "_": "-",
        "\u2010": "-",
        "\u2011": "-",
        "’": "'",
        "\n": " ",
        "\r": " ",
        "\t": " ",
        "\xa0": " ",
    }
)
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_WITHOUT_SPACES = re.compile(f"[{_UNSPACED}]")
_HEAD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_ANY_CASE_FROM = 4
_SHORTEST = 2


class Gazetteer:
    """Finds known entities by name and alias; build it once for a workspace, and share it freely.

    Names of 4 characters and more are found in any case, shorter ones as they are written; names of one
    character are not looked for. `-` and `_` are one, and so are space and line break. Where two entities
    share a name, the one whose proper name it is wins, then the first by name and type.
    """

    __slots__ = ("_folded", "_heads", "_known", "_lengths")

    def __init__(self, entities: Iterable[KnownEntity]) -> None:
        """Index all names and aliases by the word that they begin with."""
        self._known = _by_name(entities)
        self._folded = frozenset(map(fold, self._known))
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for name in self._folded:
            lengths[_HEAD.findall(name)[0]].add(len(name))
        self._lengths = {head: sorted(of_head, reverse=True) for head, of_head in lengths.items()}
        signs = "".join(re.escape(head) for head in self._lengths if not head.isalnum())
        self._heads = re.compile(_HEAD.pattern.replace(r"[^\w\s]", f"[{signs}]" if signs else "(?!)"))

    def get(self, name: str) -> KnownEntity | None:
        """Return the entity that has this name or alias."""
        return self._known.get(_key(name))

    def has(self, name: str) -> bool:
        """Return whether an entity has this name or alias in any case."""
        return fold(" ".join(name.split())) in self._folded

    def knows(self, name: str, type_: str) -> bool:
        """Return whether this very entity is known."""
        known = self.get(name)
        return known is not None and (known.name, known.type) == (name, type_)

    def find(self, text: str) -> list[Occurrence]:
        """Return where known entities are named: leftmost first, the longest name, without overlaps."""
        folded = fold(text)
        found: list[Occurrence] = []
        done = 0
        for head in self._heads.finditer(folded):
            lengths = self._lengths.get(head[0])
            start = head.start()
            if not lengths or start < done:
                continue
            for length in lengths:
                end = start + length
                known = self._known.get((text if length < _ANY_CASE_FROM else folded)[start:end])
                if known and end <= len(text) and _is_whole(text, start, end):
                    found.append(Occurrence(known.name, known.type, start, end))
                    done = end
                    break
        return found


def fold(text: str) -> str:
    """Return the text in lower case with one sign for each kind of hyphen, blank and apostrophe.

    The result has the length of the text.
    """
    return text.translate(_FOLD).lower().replace("ς", "σ")


def _by_name(entities: Iterable[KnownEntity]) -> dict[str, KnownEntity]:
    ordered = sorted(entities, key=lambda entity: (entity.name.casefold(), entity.name, entity.type))
    known: dict[str, KnownEntity] = {}
    for entity in ordered:
        known.setdefault(_key(entity.name), entity)
    for entity in ordered:
        for alias in entity.aliases:
            known.setdefault(_key(alias), entity)
    return {key: entity for key, entity in known.items() if len(key) >= _SHORTEST and _HEAD.match(key)}


def _key(name: str) -> str:
    name = " ".join(name.split())
    return fold(name) if len(name) >= _ANY_CASE_FROM else name


def _is_whole(text: str, start: int, end: int) -> bool:
    """Return whether the name at `start` to `end` is no part of a longer word, name, path or number."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    if _joins(before) or (_joins(after[:1]) and (_joins(text[end - 1]) or after[0].isalpha())):
        return False
    if before in ("-", ".") and _joins(text[max(0, start - 2) : start - 1]):
        return not _is_identifier(text[start:end])
    if not after or after[0] not in "-.+#" or not _joins(text[end - 1]):
        return True
    if after[0] == "-":
        return not (_joins(after[1:]) and _is_identifier(text[start:end]))
    if after[0] == ".":
        return not (after[1:].isdigit() and text[end - 1].isdigit())
    return after[0] != "#" and after != "++"


def _is_identifier(surface: str) -> bool:
    """Return whether this reads as a name in code, where `typing` is another thing than `typing-extensions`."""
    return surface.islower() and " " not in surface


def _joins(character: str) -> bool:
    """Return whether the character continues a word; those of scripts without spaces never do."""
    if not (character.isalnum() or character == "_"):
        return False
    return character < "\u0e00" or not _WITHOUT_SPACES.match(character)
