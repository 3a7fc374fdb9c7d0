"""The durable hop on the real broker."""

from benchmarks.harness import Result
from benchmarks.hop import against_plain, hop_results
from benchmarks.hop_system import kafka_server
from kgl_servicekit.testing.servers import real_servers


async def measure() -> list[Result]:
    """Against the raw loop and the plain service, all three on one broker and one Postgres."""
    async with kafka_server(real_servers()) as system:
        results = await hop_results(system, 1)
        results.append(await against_plain(system))
    return results
