"""`kgl-ingest api | worker | relay | migrate | refill | release | doctor | drift`."""

from kgl_ingest.bootstrap import build
from kgl_ingest.settings import IngestSettings
from kgl_servicekit import service


def main() -> None:
    """Run one role of ingest."""
    service.main(IngestSettings, build)


if __name__ == "__main__":
    main()
