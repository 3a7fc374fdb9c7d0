"""`kgl-reader`: work for the system at KGL_URL with the key in KGL_API_KEY."""

import asyncio
import contextlib
import os
import sys

from kgl_client.api import Api
from kgl_reader.module import reader


def main() -> None:
    """Run until ended."""
    missing = [name for name in ("KGL_URL", "KGL_API_KEY") if not os.environ.get(name)]
    if missing:
        sys.exit(f"set {' and '.join(missing)}: where the system answers, and a key with modules:work")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(reader(Api(os.environ["KGL_URL"], os.environ["KGL_API_KEY"])).work())


if __name__ == "__main__":
    main()
