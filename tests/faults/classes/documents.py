"""The classes on the five services: F1, F3, and F9 to F11, whose servers only some of them stand on."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

from kgl_servicekit.identity.jwks import RETRY_SECONDS
from tests.faults.documents_embedded import WORKSPACE, EmbeddedDocuments
from tests.faults.documents_run import OBJECTS_CONCERN, DocumentsFault, DocumentsStage
from tests.faults.issuer import Issuer
from tests.faults.processes import ManagedProcess
from tests.faults.s3_server import BAD_MODES

Stage = DocumentsStage[EmbeddedDocuments]
_PAGE = "/ingest/v1/limits"
_OTHERS = ("ingest", "graph", "content", "publish")


class EmbeddedFault(DocumentsFault[EmbeddedDocuments]):
    """`s3`: objects are in a store behind a proxy, and not in a folder."""

    s3: ClassVar[bool] = False


class ServicesKilled(EmbeddedFault):
    """API and worker of each service, in a random order."""

    name = "F1"
    title = "kill -9 of each of the five services"

    async def during(self, stage: Stage) -> None:
        processes, waiting = [*stage.system.processes.values()], list[ManagedProcess]()
        async for _ in stage.rounds(every=0.7, at_least=len(processes)):
            if not waiting:
                waiting = stage.dice.sample(processes, len(processes))
            process = waiting.pop()
            await process.kill()
            await process.start()


class ServicesRestarted(EmbeddedFault):
    """SIGTERM to each, one after the other; every process ends by itself, in good order."""

    name = "F3"
    title = "rolling restart of the five services"

    async def during(self, stage: Stage) -> None:
        processes, slowest = [*stage.system.processes.values()], 0.0
        async for number in stage.rounds(every=0.5, at_least=len(processes)):
            process = processes[number % len(processes)]
            ended = await process.stop()
            await process.start()
            slowest = max(slowest, ended.seconds)
            if ended.code != 0 or ended.seconds > 10:
                stage.findings.complain("F3", f"{process.name} ended with {ended.code} after {ended.seconds:.0f} s")
        stage.figures["slowest_end_s"] = round(slowest, 2)


class ObjectsOut(EmbeddedFault):
    """Documents are refused, or accepted and done later; none is accepted without its file."""

    name = "F9"
    title = "object store out, 503, slow, truncated"
    s3 = True

    async def during(self, stage: Stage) -> None:
        s3, link = stage.system.s3, stage.system.s3_link
        assert s3 is not None and link is not None
        part = stage.times.faults / 4
        stage.history.add("fault", "out")
        async with stage.watching(OBJECTS_CONCERN, "objects") as watch:
            link.cut()
            await stage.told(watch, time.time(), up=False)
            await asyncio.sleep(part)
            link.heal()
            await stage.told(watch, time.time(), up=True)
        await stage.healed()
        for mode in BAD_MODES:
            stage.history.add("fault", mode)
            s3.mode = mode
            await asyncio.sleep(part)
            s3.mode = "ok"
            await stage.healed()
        stage.history.add("fault", "slow")
        link.drip(2000)
        await asyncio.sleep(part)
        link.heal()


class VectorsOut(EmbeddedFault):
    """Documents are accepted, and found by their meaning once the store is back; other stages go on."""

    name = "F10"
    title = "vector store out, slow, 429, partial batches"

    async def during(self, stage: Stage) -> None:
        for mode in ("out", "slow", "429", "partial"):
            stage.history.add("fault", mode)
            stage.system.break_vectors(mode)
            await asyncio.sleep(stage.times.faults / 4)
            stage.system.break_vectors("ok")
            await stage.healed()


class IssuerOut(EmbeddedFault):
    """Who has a token goes on with it while the issuer is out; a new key is known half a minute later; and no flood."""

    name = "F11"
    title = "issuer out, 500, garbage, slow; its key changes"

    async def during(self, stage: Stage) -> None:
        issuer, user = stage.system.issuer, stage.system.user
        assert issuer is not None and user is not None
        begun, token = time.monotonic(), issuer.token(user)
        await self._taken(stage, token)
        for mode in ("out", "500", "garbage", "slow"):
            stage.history.add("fault", mode)
            issuer.mode = mode
            await self._through(stage, issuer, lambda: token, 200, stage.times.faults / 6)
        strange = Issuer()  # nobody knows its key: neither valid nor invalid while the issuer is out, and not before
        await self._through(stage, issuer, lambda: strange.token(user), None, stage.times.faults / 6)
        issuer.mode = "ok"
        issuer.rotate()
        rotated = time.monotonic()
        await self._taken(stage, issuer.token(user))
        stage.figures["new_key_known_s"] = round(time.monotonic() - rotated, 1)
        most = len(_OTHERS) * (2 + int((time.monotonic() - begun) / RETRY_SECONDS))
        stage.figures["asked_for_keys"] = issuer.asked
        if issuer.asked > most:
            stage.findings.complain("I12", f"the issuer was asked {issuer.asked} times for its keys, not {most}")

    async def _through(
        self, stage: Stage, issuer: Issuer, token: Callable[[], str], status: int | None, seconds: float
    ) -> None:
        """Ask again and again; with a good token the answer is 200, with a strange one never."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer: Any = await stage.load.ask("tokens", "GET", _PAGE, headers=_person(token()))
            got = None if answer is None else answer.status
            if (status == 200 and got != 200) or (status is None and got not in (401, 503)):
                stage.findings.complain("I12", f"a token was answered {got} while the issuer was {issuer.mode}")
            await asyncio.sleep(0.1)

    async def _taken(self, stage: Stage, token: str) -> None:
        """Until every service has taken it, which is half a minute after it asked last at the latest."""
        until = time.monotonic() + RETRY_SECONDS + 20
        for path in (_PAGE, "/graph/v1/stats", "/content/v1/items", "/publish/v1/endpoints"):
            while True:
                answer = await stage.load.ask("tokens", "GET", path, headers=_person(token))
                if answer is not None and answer.status == 200:
                    break
                if time.monotonic() > until:
                    stage.findings.complain(
                        "I12", f"a good token is refused at {path}", answer and answer.content[:200]
                    )
                    return
                await asyncio.sleep(0.3)


def _person(token: str) -> dict[str, str]:
    """Headers of somebody who may have several workspaces."""
    return {"Authorization": f"Bearer {token}", "Kgl-Workspace": WORKSPACE}


DOCUMENTS_CLASSES: dict[str, type[EmbeddedFault]] = {
    made.name: made for made in (ServicesKilled, ServicesRestarted, ObjectsOut, VectorsOut, IssuerOut)
}
"""By name; F1 and F3 are tried on the small service, too."""
