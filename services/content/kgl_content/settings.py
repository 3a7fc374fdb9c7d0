"""The settings of the content service."""

from pydantic import Field

from kgl_servicekit.settings import ServiceSettings


class ContentSettings(ServiceSettings):
    """What content has besides the common settings."""

    self_review: bool | None = Field(
        default=None, description="whether an author may approve his own version; by default outside of production"
    )

    @property
    def authors_may_review(self) -> bool:
        """Whether an author may approve his own version."""
        return self.env != "production" if self.self_review is None else self.self_review
