"""Accounts by JSON, and how often a login may fail."""

import pytest

from kgl_auth.testing import PASSWORD, AuthKit, auth_for_tests
from kgl_contracts.identity import MembershipChanged, WorkspaceChanged
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.postgres import Roles

ADA = {"email": "Ada@Example.com", "password": PASSWORD, "name": "Ada"}


async def test_an_account_comes_with_a_workspace_that_it_owns_and_all_services_hear_of_it(auth: AuthKit) -> None:
    answer = await auth.browser().post("/auth/v1/register", json=ADA)
    assert answer.status_code == 201
    made = answer.json()
    assert made["user"]["email"] == "ada@example.com"
    assert PASSWORD not in answer.text
    workspace = made["workspace"]["id"]
    told = [event for event in await auth.emitted(WorkspaceChanged) if str(event.workspace_id) == workspace]
    assert [(event.slug, event.name) for event in told] == [(made["workspace"]["slug"], "Ada")]
    members = [event for event in await auth.emitted(MembershipChanged) if str(event.workspace_id) == workspace]
    assert [(str(event.user_id), event.roles) for event in members] == [(made["user"]["id"], ("owner",))]
    assert "workspace:manage" in members[0].permissions


async def test_an_address_has_one_account_in_whatever_case_it_is_typed(auth: AuthKit) -> None:
    again = await auth.browser().post("/auth/v1/register", json={**ADA, "email": "ADA@example.COM"})
    assert again.status_code == 409
    assert again.json()["code"] == "email_taken"


async def test_people_of_one_name_get_workspaces_of_different_slugs(auth: AuthKit) -> None:
    people = [await auth.register("Alan Turing") for _ in range(3)]
    assert len({person.slug for person in people}) == 3
    assert all(person.slug.startswith("alan-turing") for person in people)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"password": "too short"}, "#/password"),
        ({"password": "someone@example.com"}, "#/password"),
        ({"email": "no address"}, "#/email"),
        ({"name": "   "}, "#/name"),
        ({"name": "a\u0007b"}, "#/name"),
        ({"roles": ["owner"]}, "#/roles"),
    ],
)
async def test_what_is_wrong_with_an_account_is_said_at_its_place(
    auth: AuthKit, change: dict[str, str], pointer: str
) -> None:
    body = {"email": "someone@example.com", "password": PASSWORD, "name": "Someone", **change}
    answer = await auth.browser().post("/auth/v1/register", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert "too short" not in answer.text


async def test_production_is_closed_unless_it_is_said_otherwise(roles: Roles) -> None:
    async with auth_for_tests(roles, env="production") as auth:
        answer = await auth.browser().post("/auth/v1/register", json={**ADA, "email": "b@example.com"})
        assert answer.status_code == 403
        assert answer.json()["code"] == "registration_closed"
        browser = auth.browser()
        page = await auth.login_page(browser)
        assert "register?" not in page.text
        form = await browser.get(str(page.url).replace("/authorize?", "/register?"))
        assert form.status_code == 403
    async with auth_for_tests(roles, env="production", open_registration=True) as auth:
        answer = await auth.browser().post("/auth/v1/register", json={**ADA, "email": "b@example.com"})
        assert answer.status_code == 201


async def test_one_address_cannot_register_without_end(roles: Roles) -> None:
    async with auth_for_tests(roles, registrations_per_minute=2) as auth:
        browser = auth.browser("192.0.2.60")
        answers = [
            await browser.post("/auth/v1/register", json={**ADA, "email": f"c{n}@example.com"}) for n in range(3)
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60


async def test_the_eleventh_failure_in_a_minute_has_to_wait_for_known_and_unknown_accounts_alike(auth: AuthKit) -> None:
    person = await auth.register()
    for email in (person.email, "unknown@example.com"):
        browser = auth.browser("192.0.2.61")
        page = await auth.login_page(browser)
        tries = [await auth.submit(browser, page, email=email, password="not it at all") for _ in range(11)]
        assert [answer.status_code for answer in tries] == [400] * 10 + [429]
        assert 1 <= int(tries[-1].headers["retry-after"]) <= 60
        assert "Too many attempts" in tries[-1].text
        right = await auth.submit(browser, page, email=email, password=PASSWORD)
        assert right.status_code == 429
    await auth.log_in(person, auth.browser("192.0.2.62"))


async def test_a_success_forgets_the_failures_and_successes_do_not_count(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser("192.0.2.63")
    for _ in range(3):
        page = await auth.login_page(browser)
        for _ in range(9):
            assert (await auth.submit(browser, page, email=person.email, password="no")).status_code == 400
        await auth.log_in(person, browser)


async def test_the_window_ends_after_a_minute(auth: AuthKit) -> None:
    browser = auth.browser("192.0.2.64")
    page = await auth.login_page(browser)
    for _ in range(11):
        answer = await auth.submit(browser, page, email="x@example.com", password="no")
    assert answer.status_code == 429

    async def a_minute_later(tx: Transaction, _: None) -> None:
        await tx.execute("update attempt_counter set started_at = started_at - interval '61 seconds'")

    await auth.database.run((), a_minute_later, None)
    assert (await auth.submit(browser, page, email="x@example.com", password="no")).status_code == 400


async def test_one_client_address_cannot_go_through_all_accounts(roles: Roles) -> None:
    async with auth_for_tests(roles, login_attempts_per_address=3) as auth:
        browser = auth.browser("192.0.2.65")
        page = await auth.login_page(browser)
        tries = [await auth.submit(browser, page, email=f"{n}@example.com", password="no") for n in range(4)]
        assert [answer.status_code for answer in tries] == [400, 400, 400, 429]
