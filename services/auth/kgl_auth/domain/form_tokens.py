"""Proof that a form was served by us to the browser that sends it.

The token of a form is a MAC of the form's name and address under the pre-session cookie: another site can make
a browser send the cookie along, but it can neither read it nor compute the token.
"""

import hashlib
import hmac


def form_token(pre_session: str, form: str, address: str) -> str:
    """The token of one form at one address (path and query) for one browser."""
    return hmac.new(pre_session.encode(), f"{form}\n{address}".encode(), hashlib.sha256).hexdigest()


def is_form_token(token: str, pre_session: str | None, form: str, address: str) -> bool:
    """Whether the token belongs to this form and browser; never without a pre-session."""
    if not pre_session:
        return False
    return hmac.compare_digest(token.encode(), form_token(pre_session, form, address).encode())
