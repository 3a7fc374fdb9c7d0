"""The settings of the publish service."""

from pydantic import Field

from kgl_servicekit.settings import ServiceSettings


class PublishSettings(ServiceSettings):
    """What publish has besides the common settings. Times are seconds."""

    delivery_timeout: float = Field(default=10.0, gt=0, description="for one attempt")
    delivery_delays: tuple[float, ...] = Field(
        default=(5, 30, 120, 600, 3600, 21600), description="before the second, third ... attempt; then it is given up"
    )
    live_retention: float = Field(default=7 * 86400.0, ge=60, description="how long live events can be read and pulled")
