"""The few pages that a person sees here: plain HTML, no scripts, nothing from elsewhere."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse


class Pages:
    """Renders pages, each with headers that allow it no more than its own style and form."""

    def __init__(self) -> None:
        self._style = files(__name__).joinpath("templates/style.css").read_text()
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
        self._templates = Environment(
            loader=PackageLoader(__name__, "templates"), autoescape=True, undefined=StrictUndefined
        )

    def show(self, template: str, *, status: int = 200, form_target: str | None = None, **values: Any) -> HTMLResponse:
        """A page. `form_target` is an origin that its form may lead on to.

        Browsers apply form-action to the redirects that follow a form, so the client's origin must be in it.
        """
        text = self._templates.get_template(f"{template}.html").render(style=self._style, **values)
        targets = f"'self' {form_target}" if form_target else "'self'"
        headers = {
            "Content-Security-Policy": f"{self._policy}; form-action {targets}",
            "Cache-Control": "no-store",
            # `no-referrer` would make browsers send `Origin: null` with our own forms
            "Referrer-Policy": "same-origin",
        }
        return HTMLResponse(text, status, headers)
