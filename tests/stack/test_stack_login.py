"""A person logs in with a real browser, through the same endpoints, at Keycloak and at the built-in issuer."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from kgl_cli.home import Credentials
from kgl_cli.testing import dev_system
from tests.stack.harness import Stack

CHROMIUM = os.environ.get("KGL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine; install one or name it by KGL_CHROMIUM"
)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        await chromium.close()


async def test_the_login_at_keycloak_ends_at_the_page_that_was_asked_for_with_a_session(
    stack: Stack, browser: Browser
) -> None:
    await logs_in_and_out(browser, stack.credentials, ("#username", "#password", "#kc-login"))


async def test_the_login_at_the_built_in_issuer_is_the_same(browser: Browser) -> None:
    with dev_system() as system:
        await logs_in_and_out(browser, system.start(), ("#email", "#password", "button[type=submit]"))


async def logs_in_and_out(browser: Browser, owner: Credentials, fields: tuple[str, str, str]) -> None:
    """The whole flow: login, a token for the APIs, a call with it, logout, and no token any more."""
    user, password, button = fields
    context = await browser.new_context()
    page = await context.new_page()
    try:
        await page.goto(f"{owner.url}/auth/v1/login?next=/health")
        await page.fill(user, owner.email)
        await page.fill(password, "not the password at all")
        await page.click(button)
        assert not page.url.startswith(f"{owner.url}/health")
        await page.fill(user, owner.email)
        await page.fill(password, owner.password)
        await page.click(button)
        await page.wait_for_url(f"{owner.url}/health", timeout=30_000)
        cookies = {cookie["name"]: cookie for cookie in await context.cookies(owner.url)}
        assert cookies["kgl_session"]["httpOnly"]
        token = await page.evaluate(TOKEN)
        assert token["status"] == 200
        me = await page.evaluate(ME, token["body"]["access_token"])
        assert me["body"]["user"]["email"] == owner.email
        assert owner.workspace in {workspace["slug"] for workspace in me["body"]["workspaces"]}
        ended = await page.evaluate(LOGOUT)
        assert ended in {200, 204, 303}
        assert (await page.evaluate(TOKEN))["status"] == 401
        again = await page.evaluate(ME, token["body"]["access_token"])
        assert again["status"] == 401  # the session behind the token is over everywhere
    except BaseException:
        await page.screenshot(path=str(Path(os.environ.get("KGL_HOME", ".")) / "login.png"))
        raise
    finally:
        await context.close()


TOKEN = """async () => {
    const answer = await fetch('/auth/v1/token', {method: 'POST'});
    return {status: answer.status, body: await answer.json()};
}"""
ME = """async token => {
    const answer = await fetch('/auth/v1/me', {headers: {Authorization: 'Bearer ' + token}});
    return {status: answer.status, body: await answer.json()};
}"""
LOGOUT = "async () => (await fetch('/auth/v1/logout', {method: 'POST', redirect: 'manual'})).status"
