"""What may be allowed, and the built-in roles: sets of it."""

from collections.abc import Iterable
from uuid import UUID

PERMISSIONS: frozenset[str] = frozenset(
    {
        "documents:read",
        "documents:write",
        "documents:delete",
        "graph:read",
        "graph:write",
        "content:read",
        "content:write",
        "content:review",
        "content:publish",
        "publish:read",
        "publish:write",
        "workspace:read",
        "workspace:manage",
        "members:manage",
        "keys:manage",
        "modules:manage",
        "modules:work",
        "audit:read",
        "operations:read",
        "dead-letters:read",
        "dead-letters:write",
        "live:read",
        "events:read",
    }
)
INSTANCE_PREFIX = "instance:"
EVERY_INSTANCE_PERMISSION = "instance:*"
INSTANCE_WORKSPACE = UUID(int=0)  # memberships of instance roles are kept under it; nothing else is in it

_READING = frozenset(
    {
        "documents:read",
        "graph:read",
        "content:read",
        "publish:read",
        "workspace:read",
        "operations:read",
        "live:read",
        "events:read",
    }
)
_EDITING = _READING | {"documents:write", "documents:delete", "graph:write", "content:write", "publish:write"}

ROLES: dict[str, frozenset[str]] = {
    "owner": PERMISSIONS,
    "admin": PERMISSIONS - {"workspace:manage"},
    "editor": _EDITING,
    "reviewer": _READING | {"content:write", "content:review", "content:publish"},
    "viewer": _READING,
    "module": frozenset(
        {"modules:work", "documents:read", "graph:read", "content:read", "workspace:read", "events:read"}
    ),
}
INSTANCE_ROLES: dict[str, frozenset[str]] = {"operator": frozenset({EVERY_INSTANCE_PERMISSION})}


def is_permission(name: str) -> bool:
    """Whether a route may demand this: a permission of a workspace, or one of the instance."""
    return name in PERMISSIONS or (name.startswith(INSTANCE_PREFIX) and len(name) > len(INSTANCE_PREFIX))


def is_instance_permission(name: str) -> bool:
    """Whether the permission is about the whole installation, so that no workspace has to be named."""
    return name.startswith(INSTANCE_PREFIX)


def grants(permissions: frozenset[str], wanted: str) -> bool:
    """Whether these permissions include the wanted one. `instance:*` includes those of the instance alone."""
    return wanted in permissions or (is_instance_permission(wanted) and EVERY_INSTANCE_PERMISSION in permissions)


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """What built-in roles add up to; KeyError for a role that is not built in."""
    return frozenset().union(*(ROLES[role] for role in roles))
