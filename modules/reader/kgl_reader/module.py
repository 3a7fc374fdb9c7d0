"""The reader as a module: its rules behind the client's lease loop."""

import asyncio
from uuid import UUID

from kgl_client.api import Api
from kgl_client.document import DocumentText, KnownEntity
from kgl_client.module import CannotDo, Module
from kgl_contracts.ai import Extraction, Summary
from kgl_reader.rules.extract import extract, summarise
from kgl_reader.rules.gazetteer import Gazetteer

_MOST_KEPT = 64


def reader(api: Api, *, at_once: int = 2) -> Module:
    """The built-in module: entities and relations by gazetteer, patterns and key phrases; extractive summaries."""
    module = Module("reader", api, capabilities=["extract", "summarise"], at_once=at_once)
    gazetteers = _Gazetteers()

    @module.extract
    async def read(document: DocumentText) -> Extraction:
        known = await document.known_entities()
        gazetteer = await asyncio.to_thread(gazetteers.of, document.workspace_id, known)
        return await asyncio.to_thread(extract, document.chunks, gazetteer)

    @module.summarise
    async def sum_up(document: DocumentText) -> Summary:
        try:
            return await asyncio.to_thread(summarise, document.chunks)
        except ValueError as empty:
            raise CannotDo("nothing_to_summarise", str(empty)) from empty

    return module


class _Gazetteers:
    """Gazetteers of the workspaces that were read last, built again only when the known entities have changed."""

    def __init__(self) -> None:
        self._built: dict[UUID, tuple[tuple[KnownEntity, ...], Gazetteer]] = {}

    def of(self, workspace: UUID, known: tuple[KnownEntity, ...]) -> Gazetteer:
        found = self._built.get(workspace)
        if found is None or found[0] is not known:
            found = (known, Gazetteer(known))
            self._built.pop(workspace, None)
            self._built[workspace] = found
            if len(self._built) > _MOST_KEPT:
                self._built.pop(next(iter(self._built)), None)
        return found[1]
