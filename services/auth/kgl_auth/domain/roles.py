"""Roles as sets of permissions, and who may give which."""

from collections.abc import Iterable
from typing import Literal

from kgl_servicekit.identity.permissions import INSTANCE_ROLES, ROLES, grants

RoleName = Literal["owner", "admin", "editor", "reviewer", "viewer", "module"]
OWNER: RoleName = "owner"

_ALL = ROLES | INSTANCE_ROLES


def permissions_of(roles: Iterable[str]) -> tuple[str, ...]:
    """What roles of a workspace or of the instance add up to, sorted."""
    return tuple(sorted(frozenset().union(*(_ALL[role] for role in roles))))


def missing(wanted: Iterable[str], own: frozenset[str]) -> list[str]:
    """The wanted permissions that somebody with these has not: what they can neither give nor take."""
    return sorted(name for name in set(wanted) if not grants(own, name))
