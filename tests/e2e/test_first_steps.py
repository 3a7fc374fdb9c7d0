"""What a newcomer does first works at the first try, without a sleep or a retry in between."""

import uuid

import httpx

from kgl_auth.testing import Form
from kgl_cli.testing import dev_system

RUNS = 50


def log_in(http: httpx.Client, url: str, email: str, password: str) -> str:
    """The browser's way: the plain page, its form, the cookie, and an access token for it."""
    page = http.get("/auth/v1/login", follow_redirects=True)
    form = Form(page)
    sent = http.post(form.action, data={**form.values, "email": email, "password": password}, headers={"Origin": url})
    assert sent.status_code == 303, sent.text
    assert http.get(sent.headers["location"]).status_code == 303
    token = http.post("/auth/v1/token", headers={"Origin": url})
    assert token.status_code == 200, token.text
    return str(token.json()["access_token"])


def newcomer(url: str, name: str) -> None:
    email, password = f"{name}@example.com", f"long enough for {name}"
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        account = {"email": email, "password": password, "name": "New"}
        assert http.post("/auth/v1/register", json=account).status_code == 201
        user = {"Authorization": f"Bearer {log_in(http, url, email, password)}"}
        made = http.post("/auth/v1/workspaces", json={"slug": f"w-{name}", "name": "Mine"}, headers=user)
        assert made.status_code == 201, made.text
        key = http.post(
            "/auth/v1/keys",
            json={"name": "first", "permissions": ["documents:read", "documents:write", "operations:read"]},
            headers={**user, "Kgl-Workspace": made.json()["id"]},
        )
        assert key.status_code == 201, key.text
        caller = {"Authorization": f"Bearer {key.json()['key']}"}
        uploaded = http.post("/ingest/v1/documents", json={"text": f"text of {name}"}, headers=caller)
        assert uploaded.status_code == 202, uploaded.text
        receipt = http.get(uploaded.headers["location"], headers=caller)
        assert receipt.status_code == 200, receipt.text
        assert receipt.json()["id"] == uploaded.json()["id"]


def test_register_workspace_key_upload_and_receipt_work_at_the_first_try() -> None:
    with dev_system(KGL_REGISTRATIONS_PER_MINUTE="1000", KGL_LOGIN_ATTEMPTS_PER_ADDRESS="1000") as system:
        credentials = system.start()
        for number in range(RUNS):
            newcomer(credentials.url, f"n{number}-{uuid.uuid4().hex[:8]}")
        assert system.stop() == 0
