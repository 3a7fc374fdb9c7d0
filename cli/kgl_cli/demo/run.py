"""`make demo`: documents in, searchable text, a graph, a reviewed item and a signed delivery out."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console

from kgl_cli.demo.claims import Claims
from kgl_cli.demo.corpus import read_corpus
from kgl_cli.demo.steps import Demo
from kgl_cli.home import Credentials, Home, known_system
from kgl_cli.system import embedded_system
from kgl_client.api import Api


async def run_demo(home: Home, console: Console, target: str | None = None) -> int:
    """Run all steps, on the system at `target` if it is given; 0 when every claim holds."""
    begun = time.monotonic()
    corpus = [package for package in read_corpus() if package.readme]
    size = sum(len(package.readme.encode()) for package in corpus)
    console.print(f"[bold]{len(corpus)} READMEs of installed packages, {size / 1e6:.1f} MB[/bold]")
    async with _system(home, console, target) as credentials, Api(credentials.url, credentials.api_key) as api:
        claims = Claims(console)
        await _all_steps(Demo(api, console, claims, corpus, credentials.callback_host))
    took = time.monotonic() - begun
    if claims.failed:
        console.print(f"[red]{len(claims.failed)} claims do not hold[/red] (after {took:.0f} s)")
        return 1
    more = "" if target else "; `make dev` keeps the system running"
    console.print(f"[green]every claim holds[/green] (after {took:.0f} s){more}")
    return 0


async def _all_steps(demo: Demo) -> None:
    await demo.put_requirements()
    await demo.upload()
    await demo.wait_for_receipts()
    await demo.search()
    await demo.show_entity()
    await demo.show_path()
    await demo.publish_summary()
    await demo.show_receipt()
    await demo.compare_counts()


@asynccontextmanager
async def _system(home: Home, console: Console, target: str | None) -> AsyncIterator[Credentials]:
    """The system at `target`, the running `kgl dev` of this home, or one of our own for the time of the demo."""
    if target is not None:
        yield known_system(home, target)
        return
    running = home.running()
    known = None if running is None else home.credentials(running.url)
    if known is not None:
        console.print(f"using the kgl dev at {known.url}")
        yield known
        return
    begun = time.monotonic()
    async with embedded_system(home) as (credentials, moved):
        if moved:
            console.print("The port has changed: access tokens issued before are void, API keys stay valid.")
        console.print(f"started on {credentials.url} in {time.monotonic() - begun:.1f} s (pid {os.getpid()})")
        yield credentials
