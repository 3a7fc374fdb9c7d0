"""The type of an open connection, plain or from a pool."""

from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
else:  # asyncpg's classes take no parameters at run time
    Connection = asyncpg.Connection
