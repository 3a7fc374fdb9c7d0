from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kgl_ingest.testing import Ingest, ingest_kit
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def ingest(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest_kit(postgres, tmp_path) as kit:
        yield kit
