"""The page for all people and all windows: by keyboard, by screen reader, small, dark, at rest."""

import os
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, Open
from tests.browser.driving import keep_screenshot, load, say, wait_answered
from tests.browser.test_status import CONNECT, DOCUMENT, serve
from tests.real.gateway_process import GatewayProcess

AXE: Final = Path(os.environ["AXE"]).read_text("utf-8")

Scheme = Literal["light", "dark"]

TABS: Final = ("status", "chat", "connect")


def violations(page: Page) -> list[Any]:
    """What axe finds wrong, by rule and by element."""
    page.evaluate(f"{AXE}; null")
    found = page.evaluate("axe.run()")
    return [
        (problem["id"], [node["html"] for node in problem["nodes"]])
        for problem in found["violations"]
    ]


def test_axe_sees_what_is_wrong(scripted: GatewayProcess, open_page: Open) -> None:
    page = open_page(scripted)
    page.evaluate(
        """() => {
            document.querySelector("main").append(document.createElement("img"));
            document.querySelector("h3").style.color = "#eee";
        }"""
    )
    assert {"image-alt", "color-contrast"} <= {rule for rule, _ in violations(page)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_tab_is_clean_to_axe_and_fits(
    scripted: GatewayProcess, open_page: Open, scheme: Scheme, size: tuple[int, int]
) -> None:
    page = open_page(scripted, tab="chat", size=size, color_scheme=scheme)
    say(page, "hi")
    wait_answered(page)
    name = f"{scheme}-{'phone' if size == PHONE else 'wide'}"
    for tab in TABS:
        page.get_by_role("tab", name=tab.capitalize()).click()
        assert violations(page) == [], tab
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], tab
        keep_screenshot(page, f"{tab}-{name}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_numbers_of_every_kind_are_clean_to_axe_and_fit(
    scripted: GatewayProcess, open_page: Open, scheme: Scheme, size: tuple[int, int]
) -> None:
    page = open_page(scripted, tab="connect", size=size, color_scheme=scheme)
    serve(page, "full", {**DOCUMENT, "connect": CONNECT})
    page.goto(f"{scripted.url}/?full")
    expect(page.get_by_text("The default model is being loaded.")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    keep_screenshot(page, f"status-of-everything-{scheme}-{'phone' if size == PHONE else 'wide'}")


def test_the_key_form_is_clean_to_axe(keyed: GatewayProcess, open_page: Open) -> None:
    page = open_page(keyed, size=PHONE)
    expect(page.get_by_label("API key")).to_be_visible()
    assert violations(page) == []


def test_everything_is_reached_by_keyboard(scripted: GatewayProcess, open_page: Open) -> None:
    page = open_page(scripted)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Status")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Chat")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Chat")).to_be_visible()
    expect(page.get_by_role("tabpanel", name="Status")).to_be_hidden()
    assert page.url.endswith("#chat")
    page.keyboard.press("End")
    expect(page.get_by_role("tabpanel", name="Connect")).to_be_visible()
    page.keyboard.press("Home")
    expect(page.get_by_role("tabpanel", name="Status")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Connect")).to_be_focused()


def test_what_is_announced_is_rare(gateway: GatewayProcess, open_page: Open) -> None:
    page = open_page(gateway)
    page.evaluate(
        """() => {
            window.said = [];
            for (const live of document.querySelectorAll('[role="status"], [aria-live]')) {
                new MutationObserver(() => said.push(live.textContent))
                    .observe(live, { subtree: true, childList: true, characterData: true });
            }
        }"""
    )
    with load(gateway, 3, max_tokens=24):
        expect(page.locator("tbody[data-each='running'] > tr")).to_have_count(1)
    expect(page.get_by_text("Nothing runs.")).to_be_visible()
    assert page.evaluate("said") == [], "numbers that move are not read out"
    page.get_by_role("tab", name="Chat").click()
    page.get_by_label("Max tokens").fill("24")
    say(page, "Hello.")
    wait_answered(page)
    assert page.evaluate("said") == ["The answer is complete."]


def test_nothing_moves_for_whom_that_is_too_much(scripted: GatewayProcess, open_page: Open) -> None:
    for motion, name in (("reduce", "none"), ("no-preference", "blink")):
        page = open_page(scripted, tab="chat", reduced_motion=motion)
        page.get_by_label("Model", exact=True).select_option("slow")
        say(page, "Go on.")
        expect(page.locator(".turn.writing > .text")).to_contain_text("word1")
        moving = (
            "getComputedStyle(document.querySelector('.writing > .text'), '::after').animationName"
        )
        assert page.evaluate(moving) == name
        page.get_by_role("button", name="Stop").click()


def test_settings_are_copied(scripted: GatewayProcess, open_page: Open) -> None:
    page = open_page(scripted, tab="connect")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the settings for Whatever uses OpenAI's SDKs").click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == (
        f"export OPENAI_BASE_URL={scripted.url}/v1\nexport OPENAI_API_KEY=none"
    )


def test_where_there_is_no_clipboard_they_are_selected(
    scripted: GatewayProcess, open_page: Open
) -> None:
    page = open_page(scripted, tab="connect")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy the settings for curl").click()
    assert "curl" in page.evaluate("getSelection().toString()")
