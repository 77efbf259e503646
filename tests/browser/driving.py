"""What tests of the page do again and again."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import SCREENSHOTS
from tests.real.gateway_process import GatewayProcess


def keep_screenshot(page: Page, name: str, *, whole: bool = True) -> None:
    """As an artefact of the tests, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def wait_answered(page: Page) -> None:
    """The button to send is back, and the last answer has its facts."""
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#turns > li:last-child .facts svg")).to_be_visible()


def status(gateway: GatewayProcess) -> Any:
    return gateway.get("/gateway/status").document


def ask(gateway: GatewayProcess, text: str, **fields: Any) -> None:
    """A chat by another client, to its end."""
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **fields}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        response.read()


@contextmanager
def load(gateway: GatewayProcess, clients: int, **fields: Any) -> Iterator[None]:
    """So many other clients ask something at once; at the end all have their answers."""
    threads = [
        threading.Thread(target=ask, args=(gateway, f"Count from {n} on."), kwargs=fields)
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
