"""What people come for, once through, on one running stack: before anything is merged, and in two minutes."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import pytest

from standalone.config import DEMO_FILES
from standalone.stack import Stack
from tests.flows.client import Client, signed_in
from tests.ranks import clearly_first
from tests.smoke.conftest import Workspace
from tests.tenants.learning.world import WORDS, drawing

pytestmark = pytest.mark.timeout(400)

GROCERY = DEMO_FILES / "grocery"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_S = 300


def put(client: Client, dataset: str, content: bytes | None = None, **fields: str) -> dict[str, Any]:
    """Upload and wait; the asset, which must be ready."""
    answer = client.upload(dataset, content, **fields)
    job = client.wait(answer["job"], PATIENCE_S)
    assert job["state"] == "succeeded", job
    return client.json("GET", f"/assets/{answer['asset']['id']}")


def test_signing_in_opens_the_console(stack: Stack, ann: Workspace) -> None:
    if CHROMIUM and find_spec("playwright"):
        sign_in_by_browser(stack, ann)
    else:
        sign_in_by_http(stack, ann)


def sign_in_by_browser(stack: Stack, who: Workspace) -> None:
    from playwright.sync_api import sync_playwright

    from tests.console.browsing import FLAGS, PATIENCE_MS

    with sync_playwright() as play, play.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as chromium:
        page = chromium.new_page(base_url=stack.base_url)
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/")
        page.get_by_label("E-mail").fill(who.owner)
        page.get_by_label("Password").fill(who.password)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Overview").wait_for()
        assert errors == []


def sign_in_by_http(stack: Stack, who: Workspace) -> None:
    session = signed_in(stack.base_url, who.owner, who.password)
    home = session.get(f"{stack.base_url}/", timeout=60)
    assert (home.status_code, "Overview" in home.text) == (200, True)


def test_words_in_english_and_chinese_find_what_was_uploaded(ann: Workspace) -> None:
    client = ann.client
    photos, texts = client.dataset("photos"), client.dataset("texts")
    banana, milk, mushrooms = (
        put(client, photos, (GROCERY / f"{name}_iconic.jpg").read_bytes())["id"]
        for name in ("banana", "arla-standard-milk", "brown-cap-mushroom")
    )
    invoice = put(client, texts, text="The invoice is paid within thirty days.")["id"]
    dog = put(client, texts, text="Our office dog is called Bruno.")["id"]

    assert first(client, "yellow bananas", photos) == banana
    assert first(client, "黄色的香蕉", photos) == banana
    assert first(client, "mushrooms", photos) == mushrooms
    assert first(client, "when do I have to pay the bill?", texts) == invoice
    assert first(client, "办公室的狗叫什么名字？", texts) == dog
    assert set(client.found(text="milk", top_k=10)) == {banana, milk, mushrooms, invoice, dog}


def first(client: Client, text: str, dataset: str) -> str:
    return clearly_first(client.search(text=text, datasets=[dataset])["results"])["asset"]["id"]


def test_a_text_with_personal_data_is_audited(ann: Workspace) -> None:
    answer = ann.client.json("POST", "/audits", 202, json={"text": "write to ann.lee@gmail.com"})
    assert ann.client.wait(answer["job"], PATIENCE_S)["state"] == "succeeded"
    audit = ann.client.json("GET", f"/audits/{answer['audit']['id']}")
    assert audit["categories"]["personal_data"]["flagged"]
    assert ann.client.json("GET", "/records/verify")["ok"]


def test_a_model_is_trained_from_captions(ann: Workspace) -> None:
    client = ann.client
    dataset = client.dataset("shapes")
    sent = [client.upload(dataset, drawing(words, n), text=words) for n, words in enumerate(WORDS[:40])]
    assert {client.wait(answer["job"], PATIENCE_S)["state"] for answer in sent} == {"succeeded"}
    asked = {"dataset": dataset, "base": "prior-2", "epochs": 1, "name": "shapes"}
    answer = client.json("POST", "/finetunes", 202, json=asked)
    job = client.wait(answer["job"], PATIENCE_S)
    assert job["state"] == "succeeded", job["error"]
    model = client.json("GET", f"/models/{answer['model']['id']}")
    assert (model["state"], model["error"]) == ("candidate", None)
    assert model["data"]["datasets"][0]["pairs"] == len(sent)
    assert [point["epoch"] for point in model["curves"]]


def test_a_killed_worker_loses_nothing_and_doubles_nothing(stack: Stack, make_workspace: Any) -> None:
    client = make_workspace().client
    dataset = client.dataset("killed")

    def upload(number: int) -> dict[str, Any]:
        own = Client(client.base_url, client.token)
        return own.upload(dataset, text=f"document number {number}", external_id=str(number))

    with ThreadPoolExecutor(4) as pool:
        uploads = pool.map(upload, range(40))
        killed = stack.kill("worker-embed")
        uploads = list(uploads)
    stack.wait_for_successor("worker-embed", killed, PATIENCE_S)
    assert {client.wait(answer["job"], PATIENCE_S)["state"] for answer in uploads} == {"succeeded"}
    quotas = client.json("GET", "/me")["quotas"]
    assert (quotas["assets"]["used"], quotas["vectors"]["used"], quotas["vectors"]["reserved"]) == (40, 40, 0)
    found = client.found(text="document number 7", top_k=100)
    assert sorted(found) == sorted({answer["asset"]["id"] for answer in uploads})


@pytest.mark.guard
def test_workspaces_see_nothing_of_each_other(ann: Workspace, bob: Workspace) -> None:
    mine = ann.client.dataset("of ann's")
    asset = put(ann.client, mine, text="a very particular teapot")["id"]
    own = put(bob.client, bob.client.dataset("of bob's"), text="a bicycle in the rain")["id"]
    assert bob.client.found(text="a very particular teapot", top_k=100) == [own]
    for path in (f"/assets/{asset}", f"/assets/{asset}/content", f"/datasets/{mine}"):
        assert bob.client.request("GET", path).status_code == 404
    assert bob.client.request("DELETE", f"/assets/{asset}").status_code == 404
    for query in ({"text": "teapot", "datasets": [mine]}, {"image": {"asset": asset}}):
        assert bob.client.request("POST", "/search", json=query).status_code == 404
    assert ann.client.found(text="a very particular teapot", datasets=[mine]) == [asset]
