"""`kgl-publish api | worker | relay | migrate | rebuild items | refill | release | doctor | drift`."""

from kgl_publish.bootstrap import build
from kgl_publish.settings import PublishSettings
from kgl_servicekit import service


def main() -> None:
    """Run one role of publish."""
    service.main(PublishSettings, build)


if __name__ == "__main__":
    main()
