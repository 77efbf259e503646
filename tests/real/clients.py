"""Real clients: the OpenAI SDK, and curl."""

import json
import subprocess
from typing import Any, Final

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.real.gateway_process import KEY, GatewayProcess
from tests.real.processes import PATIENCE_S

TIMEOUT_S: Final = 300.0
"""Of a client and a gateway where nobody is to run out of time."""


def sdk(gateway: GatewayProcess, *, api_key: str = KEY, timeout_s: float = TIMEOUT_S) -> OpenAI:
    """It tries once, so that each answer is seen."""
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=api_key, max_retries=0, timeout=timeout_s)


def async_sdk(gateway: GatewayProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=TIMEOUT_S)


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def curl(gateway: GatewayProcess, body: dict[str, Any]) -> str:
    """What the README tells newcomers to type."""
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail-with-body", "--no-buffer"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--header", "Content-Type: application/json"),
            *("--data", json.dumps(body)),
            f"{gateway.url}/v1/chat/completions",
        ],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
        text=True,
    )
    return done.stdout
