"""An Atom feed (RFC 4287)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from xml.etree import ElementTree as ET

_ATOM = "http://www.w3.org/2005/Atom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One published item."""

    item_id: UUID
    title: str
    excerpt: str
    content_url: str
    first_published_at: datetime
    published_at: datetime


def feed(public_url: str, workspace: UUID, entries: Sequence[Entry], empty_at: datetime) -> bytes:
    """The feed of a workspace, newest first; `empty_at` is its time while it has no entries."""
    ET.register_namespace("", _ATOM)
    root = ET.Element(f"{{{_ATOM}}}feed")
    _text(root, "id", f"urn:uuid:{workspace}")
    _text(root, "title", "Published items")
    _text(root, "updated", (entries[0].published_at if entries else empty_at).isoformat())
    author = ET.SubElement(root, f"{{{_ATOM}}}author")
    _text(author, "name", "Knowledge Graph Lab")
    link = ET.SubElement(root, f"{{{_ATOM}}}link")
    link.set("rel", "self")
    link.set("href", f"{public_url}/publish/v1/feed.atom")
    for entry in entries:
        node = ET.SubElement(root, f"{{{_ATOM}}}entry")
        _text(node, "id", f"urn:uuid:{entry.item_id}")
        _text(node, "title", entry.title)
        _text(node, "summary", entry.excerpt)
        _text(node, "published", entry.first_published_at.isoformat())
        _text(node, "updated", entry.published_at.isoformat())
        ET.SubElement(node, f"{{{_ATOM}}}link").set("href", f"{public_url}{entry.content_url}")
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _text(parent: ET.Element, name: str, text: str) -> None:
    node = ET.SubElement(parent, f"{{{_ATOM}}}{name}")
    # XML 1.0 has no control characters but tab, line feed and carriage return
    node.text = "".join(c for c in text if c >= " " or c in "\t\n\r")
