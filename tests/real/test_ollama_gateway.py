"""The whole gateway before a real Ollama."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest
from openai import APIError, BadRequestError, InternalServerError, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from openai.types.chat.chat_completion_message_function_tool_call_param import Function

from gateway.backends.llamacpp import model_path
from gateway.config.schema import Embedded
from tests.real.conversation import COLORS, Conversation, streamed_call
from tests.real.gateway_process import MODEL, GatewayProcess, Serve, serving
from tests.real.life import BUSY, Life, answer, assert_counters_add_up, begun, is_served
from tests.real.ollama_process import OllamaProcess, running_ollama
from tests.real.processes import wait_until

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

CONTEXT: Final = 2048
CALLER: Final = "smollm2-tools:135m"

# By a template with tools Ollama knows that a model can call them, and how it writes a call.
# After that of Qwen2.5.
CALLING: Final = '''
FROM smollm2:135m
TEMPLATE """{{- if .Tools }}<|im_start|>system
You may call these functions:
{{- range .Tools }}
{"type": "function", "function": {{ .Function }}}
{{- end }}
Call one so:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{{ end }}
{{- range .Messages }}<|im_start|>{{ if eq .Role "tool" }}user{{ else }}{{ .Role }}{{ end }}
{{ .Content }}
{{- if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
'''

WEATHER: Final[ChatCompletionToolParam] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def asked(city: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": f"What is the weather in {city}?"}


def turn(city: str) -> list[ChatCompletionMessageParam]:
    """A question that was answered by way of the tool."""
    function: Function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return [
        asked(city),
        {
            "role": "assistant",
            "tool_calls": [{"id": f"call-{city}", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": f"call-{city}", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny."},
    ]


# A model of this size calls a tool when it sees that it always has.
TURNS: Final = [*turn("Rome"), *turn("Oslo"), asked("Paris")]


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaProcess]:
    with running_ollama() as ollama:
        gguf = model_path(Embedded())
        ollama.create(MODEL, f"FROM {gguf}\nPARAMETER num_ctx {CONTEXT}\n")
        ollama.create(CALLER, CALLING)
        yield ollama


@pytest.fixture(scope="module")
def serve(ollama: OllamaProcess, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    @contextmanager
    def serve(**environment: str) -> Iterator[GatewayProcess]:
        directory = tmp_path_factory.mktemp("gateway")
        settings = {"OLLAMA_URL": ollama.url, "SLOTS": "1", **environment}
        with serving(directory, **settings) as gateway:
            yield gateway

    return serve


class TestConversation(Conversation):
    context_length = CONTEXT

    def test_a_model_that_cannot_reason_says_so(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="reason") as caught:
            client.chat.completions.create(
                model=MODEL, messages=COLORS, max_tokens=1, reasoning_effort="low"
            )
        assert caught.value.code == "unsupported_by_model"

    def test_a_model_that_knows_no_tools_says_so(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="tools") as caught:
            client.chat.completions.create(
                model=MODEL, messages=COLORS, max_tokens=1, tools=[WEATHER]
            )
        assert caught.value.code == "unsupported_by_model"

    def test_a_call_is_read(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=CALLER,
            messages=TURNS,
            tools=[WEATHER],
            tool_choice="required",
            max_tokens=60,
            temperature=0,
        )
        # Ollama can't be made to; here it does so by itself.
        assert raw.headers["x-gateway-ignored-params"] == "tool_choice"
        completion = raw.parse()
        assert completion.choices[0].finish_reason == "tool_calls"
        (call,) = completion.choices[0].message.tool_calls or []
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Paris"}

    def test_a_call_is_streamed(self, client: OpenAI) -> None:
        with client.chat.completions.create(
            model=CALLER,
            messages=TURNS,
            tools=[WEATHER],
            max_tokens=60,
            temperature=0,
            stream=True,
        ) as stream:
            chunks = list(stream)
        name, arguments = streamed_call(chunks)
        assert name == "get_weather"
        assert json.loads(arguments) == {"city": "Paris"}
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


class TestLife(Life):
    slots = 1

    def test_a_killed_ollama_breaks_its_answers_and_is_taken_back(
        self, ollama: OllamaProcess, gateway: GatewayProcess, client: OpenAI
    ) -> None:
        with begun(client) as stream, ThreadPoolExecutor(max_workers=1) as threads:
            queued = threads.submit(answer, client, 4)
            gateway.wait_for_metric("request_queue_depth", 1)
            ollama.kill()
            # An end without `[DONE]` and without an error would look like success.
            with pytest.raises(APIError) as midway:
                list(stream)
            with pytest.raises(InternalServerError) as failed:
                queued.result()
        assert midway.value.code == "backend_error"
        assert (failed.value.status_code, failed.value.code) == (502, "backend_error")
        with pytest.raises(InternalServerError) as refused:
            answer(client, 4)
        assert (refused.value.status_code, refused.value.code) == (502, "backend_error")
        assert gateway.get("/health").status == 200
        ollama.start()
        wait_until(lambda: is_served(client), "Ollama to be taken back", 15.0)
        gateway.wait_for_metric(BUSY, 0)
        assert_counters_add_up(gateway)
