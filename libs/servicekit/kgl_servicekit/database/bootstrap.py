"""Databases and roles, made by a superuser before the first migration.

Each database has an owner (migrations) and a service role that owns nothing, so that row-level security
always binds it. Idempotent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from kgl_servicekit.database.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePlan:
    """One database to be: its name, the roles' passwords, its extensions. Roles are <name>_owner and <name>.

    Without a service's password there is the owner alone.
    """

    name: str
    owner_password: str
    service_password: str | None
    extensions: tuple[str, ...] = ()


async def create_databases(superuser_url: str, plans: Sequence[DatabasePlan]) -> None:
    """Create what is missing and set the passwords; one at a time, since roles cannot be changed by two at once."""
    server: Connection = await asyncpg.connect(superuser_url)
    try:
        await server.execute("select pg_advisory_lock(hashtext('kgl_create_databases'))")
        for plan in plans:
            await _role(server, f"{plan.name}_owner", plan.owner_password)
            if not await server.fetchval("select true from pg_database where datname = $1", plan.name):
                await server.execute(f'create database "{plan.name}" owner "{plan.name}_owner"')
            await server.execute(f'revoke all on database "{plan.name}" from public')
            if plan.service_password is not None:
                await _role(server, plan.name, plan.service_password)
                await server.execute(f'grant connect on database "{plan.name}" to "{plan.name}"')
        for plan in plans:
            await _inside(superuser_url, plan)
    finally:
        await server.close()


async def _role(server: Connection, role: str, password: str) -> None:
    if not await server.fetchval("select true from pg_roles where rolname = $1", role):
        await server.execute(f'create role "{role}" login nosuperuser nobypassrls noinherit')
    quoted = await server.fetchval("select quote_literal($1::text)", password)
    await server.execute(f'alter role "{role}" password {quoted}')


async def _inside(superuser_url: str, plan: DatabasePlan) -> None:
    """Extensions, and what the service role may do with the tables that the owner will make."""
    connection: Connection = await asyncpg.connect(superuser_url, database=plan.name)
    owner, service = f'"{plan.name}_owner"', f'"{plan.name}"'
    try:
        for extension in plan.extensions:
            await connection.execute(f'create extension if not exists "{extension}"')
        await connection.execute("revoke create on schema public from public")
        await connection.execute(f"grant all on schema public to {owner}")
        if plan.service_password is None:
            return
        await connection.execute(f"grant usage on schema public to {service}")
        for kind, rights in (
            ("tables", "select, insert, update, delete"),
            ("sequences", "usage, select"),
            ("functions", "execute"),
        ):
            await connection.execute(
                f"alter default privileges for role {owner} in schema public grant {rights} on {kind} to {service}"
            )
        await connection.execute(
            f"alter default privileges for role {owner} in schema public revoke execute on functions from public"
        )
    finally:
        await connection.close()
