"""The chat: it streams, waits in sight, stops, comes back when told to, and shows text as text."""

import re
from typing import Final

from playwright.sync_api import Page, expect

from tests.browser.conftest import USER_KEY, Open
from tests.browser.driving import keep_screenshot, load, say, status, wait_answered
from tests.browser.test_status import give_key
from tests.clients.scripted_engine import ScriptedEngine, text, thought
from tests.real.gateway_process import GatewayProcess
from tests.real.processes import wait_until

EVIL: Final = "<img src=x onerror=\"document.title='caught'\"> **bold** <script>alert(1)</script>"


def last(page: Page) -> str:
    """What the last turn says."""
    return page.locator("#turns > li:last-child > .text").inner_text()


def facts(page: Page) -> str:
    return page.locator("#turns > li:last-child .facts").inner_text()


def test_an_answer_streams_and_its_tokens_and_times_are_told(
    gateway: GatewayProcess, open_page: Open
) -> None:
    page = open_page(gateway, tab="chat")
    page.get_by_label("System prompt").fill("You are a kind gardener.")
    page.get_by_label("Max tokens").fill("60")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Seed").fill("7")
    page.evaluate(
        """() => {
            window.lengths = new Set();
            const turns = document.getElementById("turns");
            const said = () => turns.querySelector("li:last-child > .text")?.textContent ?? "";
            new MutationObserver(() => lengths.add(said().length))
                .observe(turns, { subtree: true, childList: true, characterData: true });
        }"""
    )
    say(page, "What do tomatoes need?")
    wait_answered(page)
    assert page.evaluate("lengths.size") > 10, "piece by piece"
    assert re.search(
        r"\d+ tokens read, \d+ written · .* in all, .* in the queue · first word", facts(page)
    )
    assert re.search(r"\d tokens/s", facts(page))
    expect(
        page.locator("#turns > li:last-child .facts").get_by_role("img")
    ).to_have_accessible_name(re.compile("queue .*, decode "))
    say(page, "And roses?")
    wait_answered(page)
    expect(page.locator("#turns > li")).to_have_count(4)
    keep_screenshot(page, "chat", whole=False)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#turns > li")).to_have_count(0)


def test_the_model_hears_what_was_set_and_said(
    scripted: GatewayProcess, engine: ScriptedEngine, open_page: Open
) -> None:
    page = open_page(scripted, tab="chat")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Top p").fill("0.5")
    page.get_by_label("Max tokens").fill("12")
    page.get_by_label("Seed").fill("0")
    say(page, "one")
    wait_answered(page)
    say(page, "two")
    wait_answered(page)
    asked = engine.asked[-1]
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "two"},
    ]
    assert (asked["top_p"], asked["max_tokens"], asked["seed"]) == (0.5, 12, 0)
    assert "temperature" not in asked, "the model's own holds"


def test_stopping_ends_it_at_the_engine_and_keeps_what_there_is(
    scripted: GatewayProcess, open_page: Open
) -> None:
    page = open_page(scripted, tab="chat")
    expect(page.locator("#model option")).to_have_count(7)
    page.get_by_label("Model", exact=True).select_option("slow")
    say(page, "Go on and on.")
    expect(page.locator("#turns > li:last-child > .text")).to_contain_text("word3")
    page.get_by_role("button", name="Stop").click()
    wait_answered(page)
    kept = last(page)
    assert "Stopped." in facts(page)
    wait_until(lambda: status(scripted)["slots"]["busy"] == 0, "the slot to be free")
    assert last(page) == kept
    assert status(scripted)["recent"][0]["outcome"] == "cancelled"
    say(page, "Again.")
    expect(page.locator("#turns > li:last-child > .text")).to_contain_text("word1")
    page.keyboard.press("Escape")
    wait_answered(page)
    assert "Stopped." in facts(page)


def test_who_waits_sees_its_place_and_its_time(gateway: GatewayProcess, open_page: Open) -> None:
    page = open_page(gateway, tab="chat")
    with load(gateway, 3, max_tokens=48):
        wait_until(lambda: status(gateway)["queue"]["waiting"] >= 2, "a queue")
        page.get_by_label("Max tokens").fill("4")
        say(page, "Hello.")
        waiting = page.locator("#turns > li:last-child .facts")
        # Those before it may go quickly.
        place = re.compile(r"^(Number \d|Next) in the queue, about \d+ s to go")
        expect(waiting).to_have_text(place)
        keep_screenshot(page, "chat-waiting", whole=False)
    wait_answered(page)


def test_a_refusal_is_told_counted_down_and_tried_again(
    scripted: GatewayProcess, engine: ScriptedEngine, open_page: Open
) -> None:
    for _ in range(3):  # The gateway itself tries so often.
        engine.be_busy(retry_after_s=2)
    page = open_page(scripted, tab="chat")
    say(page, "Are you there?")
    waiting = page.locator("#turns > li:last-child .facts")
    expect(waiting).to_have_text(re.compile(r"has too much to do. Trying again in \d s"))
    keep_screenshot(page, "chat-refused", whole=False)
    wait_answered(page)
    assert last(page) == "Hello."


def test_an_answer_that_breaks_says_so_and_can_be_asked_for_again(
    scripted: GatewayProcess, engine: ScriptedEngine, open_page: Open
) -> None:
    engine.break_after(text("half an "), text("answer"))
    page = open_page(scripted, tab="chat")
    say(page, "Tell me.")
    expect(page.locator("#turns > li.broken .facts")).to_contain_text("ended its answer midway")
    page.get_by_role("button", name="Try again").click()
    wait_answered(page)
    assert last(page) == "Hello."
    assert [each["content"] for each in engine.asked[-1]["messages"]] == ["Tell me."]


def test_what_a_model_writes_is_text(
    scripted: GatewayProcess, engine: ScriptedEngine, open_page: Open
) -> None:
    engine.answer(thought("Hm, <b>this</b>."), text(EVIL))
    page = open_page(scripted, tab="chat")
    say(page, EVIL)
    wait_answered(page)
    assert last(page) == EVIL
    expect(page.locator("#turns > li:first-child > .text")).to_have_text(EVIL)
    page.get_by_text("Its thoughts").click()
    expect(page.get_by_text("Hm, <b>this</b>.")).to_be_visible()
    assert page.locator("#turns img, #turns script, #turns .text b").count() == 0
    assert page.title() == "gateway"


def test_without_its_key_the_chat_asks_for_one(keyed: GatewayProcess, open_page: Open) -> None:
    page = open_page(keyed, tab="chat")
    expect(page.get_by_text("The gateway wants a key.")).to_be_visible()
    give_key(page, USER_KEY)
    expect(page.locator("#model option")).to_have_count(7)
    say(page, "hi")
    wait_answered(page)
    assert last(page) == "Hello."
