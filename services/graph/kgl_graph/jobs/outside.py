"""What the jobs and endpoints of graph use of the world outside of its transactions."""

from dataclasses import dataclass

from kgl_graph.stores.embedder import Embedder
from kgl_graph.stores.vectors import VectorIndex
from kgl_servicekit.objects.port import ObjectStore


@dataclass(frozen=True, slots=True)
class Outside:
    """The stores of graph, built once by its bootstrap."""

    objects: ObjectStore
    embedder: Embedder
    vectors: VectorIndex
