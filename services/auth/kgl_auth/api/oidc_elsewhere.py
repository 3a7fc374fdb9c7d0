"""Where the endpoints of the built-in issuer are when it is not the issuer: nothing, and a word on who is."""

from kgl_auth.outside import Outside
from kgl_auth.problems import IssuedElsewhere
from kgl_servicekit.http import PUBLIC, ApiRouter

router = ApiRouter(prefix="/oidc", tags=["openid"])

_READ = ("/.well-known/openid-configuration", "/jwks", "/authorize", "/login", "/register", "/userinfo", "/logout")
_POSTED = ("/authorize", "/login", "/register", "/token", "/userinfo", "/logout")


async def elsewhere(outside: Outside) -> None:
    """Clients discover the issuer at the address that `issuer` names."""
    raise IssuedElsewhere(issuer=outside.settings.issuer_url)


for _path in _READ:
    router.add_api_route(
        _path,
        elsewhere,
        methods=["GET"],
        permission=PUBLIC,
        cache="no-store",
        problems=[IssuedElsewhere],
        include_in_schema=False,
    )
for _path in _POSTED:
    router.add_api_route(
        _path, elsewhere, methods=["POST"], permission=PUBLIC, problems=[IssuedElsewhere], include_in_schema=False
    )
