"""The stores of the service, for endpoints."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from kgl_graph.jobs.outside import Outside


async def _outside(request: Request) -> Outside:
    outside: Outside = request.app.state.outside
    return outside


OutsideOf = Annotated[Outside, Depends(_outside)]
