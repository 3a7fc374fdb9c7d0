"""One database and two roles for each service; for Keycloak an owner alone, since it makes its tables itself."""

from collections.abc import Callable
from typing import Literal

import asyncpg
import typer
from pydantic import Field, SecretStr

from kgl_cli.setup.telling import told
from kgl_servicekit.database.bootstrap import DatabasePlan, create_databases
from kgl_servicekit.database.connection import told_lost
from kgl_servicekit.settings import NotConfigured, Settings, settings_of

SERVICES = ("auth", "ingest", "graph", "content", "publish")


class DatabaseServer(Settings):
    """The server, who may make databases on it, and the passwords that the roles are to have."""

    postgres_url: SecretStr = Field(description="of somebody who may make databases and roles")
    vectors: Literal["pgvector", "weaviate"] = "pgvector"
    db_auth_password: SecretStr
    db_auth_owner_password: SecretStr
    db_ingest_password: SecretStr
    db_ingest_owner_password: SecretStr
    db_graph_password: SecretStr
    db_graph_owner_password: SecretStr
    db_content_password: SecretStr
    db_content_owner_password: SecretStr
    db_publish_password: SecretStr
    db_publish_owner_password: SecretStr
    db_keycloak_owner_password: SecretStr | None = Field(default=None, description="without it Keycloak has its own")

    def plans(self) -> list[DatabasePlan]:
        """The databases to be."""
        made = [
            DatabasePlan(
                name=f"kgl_{service}",
                owner_password=getattr(self, f"db_{service}_owner_password").get_secret_value(),
                service_password=getattr(self, f"db_{service}_password").get_secret_value(),
                extensions=self._extensions() if service == "graph" else (),
            )
            for service in SERVICES
        ]
        if self.db_keycloak_owner_password is not None:
            password = self.db_keycloak_owner_password.get_secret_value()
            made.append(DatabasePlan(name="kgl_keycloak", owner_password=password, service_password=None))
        return made

    def _extensions(self) -> tuple[str, ...]:
        return ("pg_trgm", "vector") if self.vectors == "pgvector" else ("pg_trgm",)


def run() -> None:
    """The command."""
    told(lambda: create_all(settings_of(DatabaseServer), typer.echo))


async def create_all(server: DatabaseServer, tell: Callable[[str], None]) -> None:
    """Make what is missing and set the passwords; `tell` hears what is there now. Raises NotConfigured."""
    plans = server.plans()
    try:
        await create_databases(server.postgres_url.get_secret_value(), plans)
    except asyncpg.InvalidAuthorizationSpecificationError as refused:
        raise NotConfigured(f"KGL_POSTGRES_URL is refused: {refused}") from refused
    except asyncpg.InsufficientPrivilegeError as refused:
        raise NotConfigured(
            f"KGL_POSTGRES_URL is somebody who may not make databases and roles: {refused}"
        ) from refused
    except asyncpg.FeatureNotSupportedError as missing:
        raise NotConfigured(f"the server lacks an extension: {missing}; without pgvector set KGL_VECTORS") from missing
    except (OSError, TimeoutError) as lost:
        raise NotConfigured(told_lost("KGL_POSTGRES_URL", lost)) from lost
    tell(f"databases: {', '.join(plan.name for plan in plans)}")
