"""A real Chromium, gateways for it to look at, and what must be so on every page that it shows."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.clients import scripted_engine as script
from tests.clients.scripted_engine import ScriptedEngine, scripted_engine
from tests.real.gateway_process import GatewayProcess, serving

GATEWAY_PYTHON: Final = os.environ["GATEWAY_PYTHON"]
"""The interpreter that the gateway is installed for; these tests have another."""

SCREENSHOTS: Final = Path(os.environ["SCREENSHOTS"])

OPERATOR_KEY: Final = "sk-operator-0123456789abcdefghij"
USER_KEY: Final = "sk-user-0123456789abcdefghijklmn"

PATIENCE_MS: Final = 30_000

WIDE: Final = (1280, 900)
PHONE: Final = (360, 740)

KEYED: Final = f"""\
[server]
local_admin = false

[auth.keys]
operator = "{OPERATOR_KEY}"
user = "{USER_KEY}"

[callers.operator]
admin = true
"""

_TOLD: Final = "Failed to load resource: "
"""What Chromium says of each refusal; the page tells of them in its own words."""


expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Its own sandbox needs more than a container may.
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """In front of a real model with one slot; without keys, its operator is on this machine."""
    with serving(
        tmp_path_factory.mktemp("embedded"),
        python=GATEWAY_PYTHON,
        API_KEY="",
        GATEWAY__BACKEND__KIND="llamacpp",
        GATEWAY__BACKEND__SLOTS="1",
        GATEWAY__SCHEDULING__DEADLINES="false",
        GATEWAY__SCHEDULING__PROGRESS_SECONDS="0.5",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def keyed(
    engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """In front of an engine whose answers are written down; wants keys, also of this machine."""
    with scripted_gateway(engine, tmp_path_factory.mktemp("keyed"), KEYED) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def scripted(
    engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The same without keys."""
    with scripted_gateway(engine, tmp_path_factory.mktemp("scripted"), "") as gateway:
        yield gateway


@contextmanager
def scripted_gateway(
    engine: ScriptedEngine, directory: Path, settings: str
) -> Iterator[GatewayProcess]:
    config = directory / "settings.toml"
    config.write_text(settings, "utf-8")
    config.chmod(0o600)
    with serving(
        directory,
        python=GATEWAY_PYTHON,
        API_KEY="",
        GATEWAY_CONFIG=str(config),
        GATEWAY__BACKEND__KIND="openai",
        OLLAMA_URL=engine.url,
        MODEL_NAME=script.MODEL,
        GATEWAY__GENERATION__WARM_UP="false",
        GATEWAY__SCHEDULING__DEADLINES="false",
    ) as gateway:
        yield gateway


Open = Callable[..., Page]


class Witness:
    """Sees what no page may do: ask anybody else, break, or meet its own security policy."""

    def __init__(self, page: Page, url: str) -> None:
        self.seen: list[str] = []
        self._url = url
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(str(error)))

    def _request(self, request: Request) -> None:
        if not request.url.startswith(f"{self._url}/"):
            self.seen.append(f"asked {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_TOLD):
            self.seen.append(message.text)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens the page of a gateway, in a window of its own: `open_page(gateway, tab="chat")`."""
    contexts, witnesses = [], []

    def open_page(
        gateway: GatewayProcess,
        *,
        tab: str = "",
        size: tuple[int, int] = WIDE,
        **settings: Any,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, permissions=[], **settings
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        witnesses.append(Witness(page, gateway.url))
        page.goto(f"{gateway.url}/{tab and f'#{tab}'}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [said for witness in witnesses for said in witness.seen] == []
