"""The entity tag of an item: it changes with every version and state."""

from kgl_content.domain.items import Item


def item_tag(item: Item) -> str:
    """A strong tag, quoted as RFC 9110 has it."""
    return f'"{item.id.hex}-{item.version}-{item.state}"'
