"""`kgl-graph api | worker | relay | migrate | rebuild NAME | refill | release | doctor | drift`."""

from kgl_graph.bootstrap import build
from kgl_graph.settings import GraphSettings
from kgl_servicekit import service


def main() -> None:
    """Run one role of graph."""
    service.main(GraphSettings, build)


if __name__ == "__main__":
    main()
