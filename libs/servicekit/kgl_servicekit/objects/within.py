"""Reading an object whose key came from elsewhere.

A key comes in an event, and whoever corrects a dead letter writes the event anew. So a reader works out for itself
where the object has to lie (`places.py`), from the workspace of its transaction and the document that the event is
about; what lies elsewhere may be another workspace's, or of a document that not everybody in this one may see.
"""

from kgl_servicekit.errors import JobFailed
from kgl_servicekit.objects.port import ObjectStore, is_key


async def read_within(objects: ObjectStore, folder: str, key: str) -> bytes:
    """The object, which lies in this folder. Raises ObjectMissing, and JobFailed for a key of any other place."""
    if not (key.startswith(folder) and is_key(key)):
        raise JobFailed("foreign_object", "The object does not belong to what it is read for.")
    return await objects.get(key)
