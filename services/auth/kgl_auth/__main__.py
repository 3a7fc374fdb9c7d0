"""`kgl-auth api | worker | relay | migrate | refill | release | doctor | drift`."""

from kgl_auth.bootstrap import build
from kgl_auth.settings import AuthSettings
from kgl_servicekit import service


def main() -> None:
    """Run one role of the auth service."""
    service.main(AuthSettings, build)


if __name__ == "__main__":
    main()
