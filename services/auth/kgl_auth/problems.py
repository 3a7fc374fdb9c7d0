"""What can go wrong on purpose in this service, each with what to do about it."""

from kgl_servicekit.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, TooMany, Unauthorized, Unavailable


class EmailTaken(Conflict, code="email_taken"):
    """This e-mail address has an account; log in with it, or use another one."""


class SlugTaken(Conflict, code="slug_taken"):
    """Another workspace has this slug; choose another one."""


class LastOwner(Conflict, code="last_owner"):
    """A workspace needs an owner; make somebody else an owner first."""


class RegistrationClosed(Forbidden, code="registration_closed"):
    """Registration is closed here; ask the operator for an account, or to set KGL_OPEN_REGISTRATION."""


class PermissionsNotYours(Forbidden, code="permissions_not_yours"):
    """You can only give and take permissions that you have; `missing` lists those that you have not."""

    missing: list[str]


class NotLoggedIn(Unauthorized, code="not_logged_in"):
    """There is no live session behind this browser's cookie; begin at /auth/v1/login."""


class WrongCredentials(Unauthorized, code="wrong_credentials"):
    """The e-mail address or the password is wrong."""


class TooManyAttempts(TooMany, code="too_many_attempts"):
    """Too many attempts; wait for the seconds in Retry-After, then try again."""


class WeakPassword(Invalid, code="weak_password"):
    """Choose a better password; `errors` says what is wrong with this one."""


class UserUnknown(NotFound, code="user_unknown"):
    """There is no user with this id; they find their own at GET /auth/v1/me."""


class EmailMalformed(Invalid, code="email_malformed"):
    """This is no e-mail address; `errors` says what is wrong with it."""


class NextRefused(BadRequest, code="next_refused"):
    """`next` must be a path of this site, such as /documents?page=2."""


class ProviderUnavailable(Unavailable, code="identity_provider_unavailable"):
    """Keycloak cannot be asked at the moment, and nobody can log in; try again after Retry-After."""


class IssuedElsewhere(NotFound, code="issued_elsewhere"):
    """This installation's tokens are Keycloak's; `issuer` names the realm that clients discover."""

    issuer: str
