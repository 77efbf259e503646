"""The numbers: filled in by the server, kept up to date by the script, told to whoever may see."""

import json
import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from gateway.web.filling import fill
from tests.browser.conftest import OPERATOR_KEY, USER_KEY, Open, scripted_gateway
from tests.browser.driving import ask, keep_screenshot, load, status
from tests.clients.scripted_engine import ScriptedEngine
from tests.real.gateway_process import ROOT, GatewayProcess

PAGE: Final = ROOT / "gateway" / "web" / "page"
DOCUMENT: Final = json.loads((Path(__file__).parent / "status.json").read_text("utf-8"))
"""With something of everything: every state, every unit, and text that is no markup."""

SHOWN: Final = """() => [...document.querySelectorAll("#state, #numbers *")]
    .filter((one) => !one.closest(".spark"))
    .map((one) => [
        one.localName, one.hasAttribute("hidden"), one.children.length ? "" : one.textContent,
        ...["class", "data-state", "data-model", "x", "width"].map((key) => one.getAttribute(key)),
    ])"""
"""Every element of the numbers, and what is filled in."""

CONNECT: Final = {"base": "http://here", "keyed": True, "about_keys": "", "clients": []}


def figure(page: Page, name: str) -> int:
    """One of the large numbers at the top."""
    cell = page.locator(".figures > div").filter(has=page.get_by_text(name, exact=True))
    return int(cell.locator(".figure > span").inner_text())


def test_what_the_server_writes_is_what_the_script_would(
    scripted: GatewayProcess, open_page: Open
) -> None:
    page = open_page(scripted, tab="connect")
    serve(page, "full", {**DOCUMENT, "connect": CONNECT})
    page.goto(f"{scripted.url}/?full")
    by_server = page.evaluate(SHOWN)
    serve(page, "empty", {"object": "gateway.status", "connect": CONNECT})
    page.goto(f"{scripted.url}/?empty")
    page.evaluate(
        """async (status) => {
            const { fill } = await import("./page/fill.js");
            for (const id of ["state", "status"]) fill(document.getElementById(id), status);
        }""",
        DOCUMENT,
    )
    assert page.evaluate(SHOWN) == by_server
    assert len(by_server) > 300
    assert any("12\u202f345" in element for element in by_server), "a row was filled"


def serve(page: Page, name: str, document: object) -> None:
    """What `/?name` is from now on, as the gateway would write it; nothing keeps it up to date."""
    html = fill((PAGE / "index.html").read_text("utf-8"), document)
    page.route(f"**/?{name}", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.route("**/gateway/events", lambda route: route.fulfill(status=403))


def test_the_queue_moves_under_load(gateway: GatewayProcess, open_page: Open) -> None:
    page = open_page(gateway)
    expect(page.get_by_text("Nobody waits.")).to_be_visible()
    with load(gateway, 5, max_tokens=48):
        rows = page.locator("tbody[data-each='queue.requests'] > tr")
        expect(rows.nth(2)).to_be_visible()
        most = rows.count()
        assert figure(page, "Waiting") >= 3
        assert figure(page, "Slots busy") == 1
        assert "waiting · gateway" in page.title()
        running = page.locator("tbody[data-each='running'] > tr")
        expect(running).to_have_count(1)
        keep_screenshot(page, "status-under-load")
        expect(rows.nth(most - 1)).to_be_hidden()
    expect(page.get_by_text("Nobody waits.")).to_be_visible()
    expect(page.get_by_text("Nothing runs.")).to_be_visible()
    recent = page.locator("tbody[data-each='recent'] > tr")
    assert recent.count() >= 5
    parts = recent.first.get_by_role("img", name="queue")
    expect(parts).to_have_accessible_name(
        re.compile("queue .* s, load .* s, prefill .*s, decode .*s")
    )
    assert status(gateway)["requests"]["completed"] >= 5


def test_a_row_that_stays_keeps_the_focus(scripted: GatewayProcess, open_page: Open) -> None:
    page = open_page(scripted)
    ask(scripted, "hi")
    cell = page.locator("tbody[data-each='recent'] > tr").first
    cell.wait_for()
    page.evaluate("document.querySelector('tbody[data-each=recent] > tr').dataset.mark = 'same'")
    ask(scripted, "hi again")
    expect(page.locator("tbody[data-each='recent'] > tr").nth(1)).to_be_visible()
    assert cell.get_attribute("data-mark") == "same"


def test_without_scripts_the_numbers_are_there(gateway: GatewayProcess, open_page: Open) -> None:
    ask(gateway, "Count to three.", max_tokens=8)
    page = open_page(gateway, java_script_enabled=False)
    assert figure(page, "Waiting") == 0
    expect(page.locator("tbody[data-each='recent'] > tr").first).to_be_visible()
    expect(page.get_by_text("The chat needs JavaScript.")).to_be_visible()
    expect(page.get_by_role("heading", name="curl")).to_be_visible()
    for name in ("Copy", "Send", "Key"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    keep_screenshot(page, "without-scripts")


def test_without_scripts_and_from_elsewhere_there_is_a_sentence(
    keyed: GatewayProcess, open_page: Open
) -> None:
    page = open_page(keyed, java_script_enabled=False)
    expect(page.get_by_text("only on the gateway’s own machine")).to_be_visible()
    expect(page.locator("#numbers")).to_be_hidden()
    assert "scripted" not in page.locator("#status").inner_text(), "not the model's name"


def test_a_key_opens_the_numbers_and_is_kept_in_the_tab_alone(
    keyed: GatewayProcess, open_page: Open
) -> None:
    page = open_page(keyed)
    expect(page.get_by_text("The gateway wants a key.")).to_be_visible()
    expect(page.locator("#numbers")).to_be_hidden()
    keep_screenshot(page, "key-wanted", whole=False)
    give_key(page, "sk-wrong-0123456789abcdefghijklm")
    expect(page.get_by_text("This key is not known here.")).to_be_visible()
    give_key(page, OPERATOR_KEY)
    expect(page.locator(".figures")).to_be_visible()
    expect(page.locator("#key")).to_be_hidden()
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    assert page.evaluate("Object.values(sessionStorage)") == [OPERATOR_KEY]
    assert OPERATOR_KEY not in page.content() + page.url
    page.reload()
    expect(page.locator(".figures")).to_be_visible()
    page.get_by_role("button", name="Key").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_text("The gateway wants a key.")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_is_no_operators_sees_no_numbers(keyed: GatewayProcess, open_page: Open) -> None:
    page = open_page(keyed)
    give_key(page, USER_KEY)
    expect(page.get_by_text("its status is for operators")).to_be_visible()
    expect(page.locator("#numbers")).to_be_hidden()
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#model option")).to_have_count(7)


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use it").click()


@pytest.mark.parametrize("name", ["Waiting", "Slots busy", "Tokens per second", "Refused"])
def test_the_large_numbers_have_names(scripted: GatewayProcess, open_page: Open, name: str) -> None:
    page = open_page(scripted)
    expect(page.get_by_role("term").filter(has_text=name)).to_be_visible()


def test_a_gateway_that_went_is_told_of(
    engine: ScriptedEngine, tmp_path: Path, open_page: Open
) -> None:
    with scripted_gateway(engine, tmp_path, "") as gateway:
        page = open_page(gateway)
        expect(page.locator("#state")).to_contain_text("ready")
        gateway.terminate()
        gateway.wait_drained()
        expect(
            page.get_by_text("The gateway does not answer. What you see is from")
        ).to_be_visible()
