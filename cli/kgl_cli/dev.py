"""`kgl dev`: the embedded system, until it is stopped."""

import asyncio
import time

from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.system import embedded_system


async def serve(home: Home, port: int | None, console: Console) -> int:
    """Serve until cancelled; raises HomeRefused when another `kgl dev` has this home already."""
    begun = time.monotonic()
    async with embedded_system(home, port) as (credentials, moved):
        if moved:
            console.print("The port has changed: access tokens issued before are void, API keys stay valid.")
        console.print(f"ready after {time.monotonic() - begun:.1f} s")
        console.print(f"  URL        {credentials.url}")
        console.print(f"  APIs       {credentials.url}/docs")
        console.print(f"  log in     {credentials.url}/auth/v1/login")
        console.print(f"  e-mail     {credentials.email}")
        console.print(f"  password   {credentials.password}")
        console.print(f"  workspace  {credentials.workspace}")
        console.print(f"  API key    in {home.path / 'credentials.json'}")
        await asyncio.Event().wait()
    return 0
