"""`kgl-content api | worker | relay | migrate | refill | release | doctor | drift`."""

from kgl_content.bootstrap import build
from kgl_content.settings import ContentSettings
from kgl_servicekit import service


def main() -> None:
    """Run one role of content."""
    service.main(ContentSettings, build)


if __name__ == "__main__":
    main()
