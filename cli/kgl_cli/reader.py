"""The built-in reader, in the process of an embedded system; it works over HTTP like any other module."""

from kgl_cli.home import Credentials
from kgl_client.api import Api
from kgl_reader.module import reader


async def run_reader(credentials: Credentials) -> None:
    """Work until cancelled."""
    await reader(Api(credentials.url, credentials.module_key)).work()
