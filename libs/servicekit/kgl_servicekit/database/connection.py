"""The type of an open connection, plain or from a pool, and the errors that mean that it is lost."""

import ssl
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
else:  # asyncpg's classes take no parameters at run time
    Connection = asyncpg.Connection

# the connection, and with it an uncommitted transaction, is gone
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that ended at a bad moment
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    TimeoutError,
    OSError,
)


def told_lost(setting: str, lost: BaseException) -> str:
    """Why the server of the URL in this setting cannot be used, for whoever has to mend it."""
    if isinstance(lost, ssl.SSLCertVerificationError):
        return f"{setting}: the certificate of its server is not trusted: {lost.verify_message} (see sslrootcert in it)"
    if isinstance(lost, FileNotFoundError) and lost.filename is None:
        return f"{setting}: what sslrootcert in it names is no file of certificates"
    return f"{setting}: its server cannot be reached: {lost}"
