"""Texts to vectors: the port, and the built-in model."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

_BATCH = 64


class Embedder(Protocol):
    """Whatever turns texts into vectors of one length."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]: ...


class WordLlamaEmbedder:
    """wordllama: static token embeddings of 256 dimensions, in the package itself; nothing is downloaded."""

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit vectors, one for each text."""
        async with self._lock:
            if self._model is None:
                self._model = await asyncio.to_thread(_load)
        vectors: list[list[float]] = []
        for first in range(0, len(texts), _BATCH):
            vectors += await asyncio.to_thread(self._embed, list(texts[first : first + _BATCH]))
        return vectors

    def _embed(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self._model.embed(texts, norm=True).tolist()
        return found


def _load() -> Any:
    import wordllama

    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
