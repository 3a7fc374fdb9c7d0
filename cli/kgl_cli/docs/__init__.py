"""The documentation of all APIs: the page at /docs, all that it loads, and the document that it shows."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_OWN = Path(__file__).parent
_SWAGGER = Path(str(files("fastapi_swagger"))) / "resources"
OPENAPI = _OWN / "openapi.json"

FILES: Mapping[str, Path] = {
    "/docs": _OWN / "page.html",
    "/docs/": _OWN / "page.html",
    "/docs/start.js": _OWN / "start.js",
    "/docs/swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
    "/docs/favicon-32x32.png": _SWAGGER / "favicon-32x32.png",
    "/openapi.json": OPENAPI,
}
# the same as in deploy/nginx/kgl/docs.conf
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_STATIC = StaticFiles()


def answer(scope: Scope) -> Response | None:
    """What is at the path of a request to read, or that nothing of it is new; None where nothing is."""
    file = FILES.get(scope["path"])
    if file is None:
        return None
    found = _STATIC.file_response(file, file.stat(), scope)
    found.headers.update(HEADERS)
    return found
