"""Which roles the groups of an identity provider give, as the operator has set it."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kgl_auth.domain.roles import RoleName
from kgl_auth.domain.slugs import Slug


class GroupRoles(BaseModel):
    """Roles in a workspace, or `instance` roles of the whole installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Slug | None = None
    roles: tuple[RoleName, ...] = ()
    instance: tuple[Literal["operator"], ...] = ()

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if (self.workspace is None) == (not self.instance) or (self.workspace is None) != (not self.roles):
            raise ValueError('a group gives {"workspace": "<slug>", "roles": [...]} or {"instance": ["operator"]}')
        return self


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


GroupRolesMap = Mapping[str, Annotated[tuple[GroupRoles, ...], BeforeValidator(_as_list), Field(min_length=1)]]


def by_workspace(groups: Iterable[str], group_roles: GroupRolesMap) -> dict[str | None, tuple[str, ...]]:
    """What these groups give together: roles by the slug of the workspace, None for the instance.

    A group is named by its whole path (`/lab/editors`); the first slash may be left out in the settings.
    """
    member_of = {group.removeprefix("/") for group in groups}
    given: dict[str | None, set[str]] = {}
    for group, grants in group_roles.items():
        if group.removeprefix("/") in member_of:
            for grant in grants:
                given.setdefault(grant.workspace, set()).update(grant.roles, grant.instance)
    return {slug: tuple(sorted(roles)) for slug, roles in given.items()}
