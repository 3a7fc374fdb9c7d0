"""/ingest/v1/limits: what the system takes, so that nobody has to try."""

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from kgl_ingest.domain.media_types import MediaType
from kgl_servicekit.http import ApiRouter
from kgl_servicekit.http.app import Kit

router = ApiRouter(prefix="/limits", tags=["limits"])


class Limits(BaseModel):
    """Sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    max_upload: int
    max_body: int
    max_page: int
    media_types: tuple[MediaType, ...]


@router.get("", permission=None, cache=300)
async def get_limits(request: Request) -> Limits:
    """The limits of uploads, bodies and pages, and the media types that are read."""
    kit: Kit = request.app.state.kit
    return Limits(
        max_upload=kit.settings.max_upload,
        max_body=kit.settings.max_body,
        max_page=kit.settings.max_page,
        media_types=tuple(MediaType),
    )
