"""The whole gateway before a real Ollama."""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from openai import APIError, BadRequestError, InternalServerError, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from openai.types.chat.chat_completion_message_function_tool_call_param import Function

from gateway.backends.http import HttpClient
from gateway.backends.llamacpp import model_path
from gateway.backends.ollama import OllamaBackend
from gateway.config.schema import Embedded, Limits, Timeouts
from gateway.core.clock import LoopClock
from gateway.core.messages import GenerateRequest, Message, Role
from gateway.pool.upstream import LOAD_S_MIN
from tests.real.clients import TIMEOUT_S, sdk
from tests.real.completing import Completing
from tests.real.conversation import COLORS, Conversation, streamed_call
from tests.real.embedding import PAIRS, Embedding
from tests.real.gateway_process import KEY, MODEL, GatewayProcess, Serve, serving
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

FILLER: Final = "smollm2-fill:135m"

# By a template with a suffix Ollama knows that a model can fill in.
FILLING: Final = '''
FROM smollm2:135m
TEMPLATE """{{ .Suffix }}{{ .Prompt }}"""
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


def post(url: str, body: dict[str, Any]) -> Any:
    request = Request(url, json.dumps(body).encode(), {"Authorization": f"Bearer {KEY}"})
    with urlopen(request, timeout=TIMEOUT_S) as reply:
        return json.load(reply)


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaProcess]:
    with running_ollama() as ollama:
        gguf = model_path(Embedded())
        ollama.create(MODEL, f"FROM {gguf}\nPARAMETER num_ctx {CONTEXT}\n")
        ollama.create(CALLER, CALLING)
        ollama.create(FILLER, FILLING)
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


class TestCompleting(Completing):
    context_length = CONTEXT

    def test_a_model_fills_in_by_its_own_template(self, client: OpenAI) -> None:
        # This one has been told to put what comes after the gap first.
        reply = client.completions.create(
            model=FILLER,
            prompt=" is",
            suffix="The capital of France",
            max_tokens=2,
            temperature=0,
        )
        assert reply.choices[0].text.startswith(" Paris")

    def test_a_model_that_cannot_fill_in_says_so(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="middle") as caught:
            client.completions.create(model=MODEL, prompt="a", suffix="b", max_tokens=1)
        assert caught.value.code == "unsupported_by_model"

    def test_tokens_are_refused_by_their_name(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="tokens") as caught:
            client.completions.create(model=MODEL, prompt=[1, 2, 3], max_tokens=1)
        assert caught.value.param == "prompt"


class TestEmbedding(Embedding):
    context_length = CONTEXT

    def test_a_vector_is_as_short_as_was_asked(self, client: OpenAI) -> None:
        (short,) = client.embeddings.create(model=MODEL, input="a", dimensions=8).data
        (whole,) = client.embeddings.create(model=MODEL, input="a").data
        length = math.hypot(*whole.embedding[:8])
        assert short.embedding == pytest.approx([x / length for x in whole.embedding[:8]], abs=1e-5)

    def test_more_dimensions_than_there_are_are_refused(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="576 dimensions") as caught:
            client.embeddings.create(model=MODEL, input="a", dimensions=577)
        assert caught.value.param == "dimensions"

    def test_tokens_are_refused_by_their_name(self, client: OpenAI) -> None:
        with pytest.raises(BadRequestError, match="tokens") as caught:
            client.embeddings.create(model=MODEL, input=[1, 2, 3])
        assert caught.value.param == "input"

    def test_its_own_clients_get_its_own_vectors(
        self, gateway: GatewayProcess, ollama: OllamaProcess
    ) -> None:
        asked = {"model": MODEL, "input": [PAIRS[0][0], PAIRS[1][1]]}
        told = post(f"{gateway.url}/api/embed", asked)
        own = post(f"{ollama.url}/api/embed", asked)
        assert told["embeddings"] == own["embeddings"]
        assert told["prompt_eval_count"] == own["prompt_eval_count"]
        older = post(f"{gateway.url}/api/embeddings", {"model": MODEL, "prompt": PAIRS[0][0]})
        assert older == {"embedding": own["embeddings"][0]}
        loaded = post(f"{gateway.url}/api/embed", {"model": MODEL})
        assert loaded["embeddings"] == []

    def test_its_own_clients_have_long_texts_cut_unless_they_say_no(
        self, gateway: GatewayProcess
    ) -> None:
        asked = {"model": MODEL, "input": "word " * 600, "options": {"num_ctx": 512}}
        cut = post(f"{gateway.url}/api/embed", asked)
        assert cut["prompt_eval_count"] <= 512
        with pytest.raises(HTTPError) as caught:
            post(f"{gateway.url}/api/embed", {**asked, "truncate": False})
        assert caught.value.code == 400
        assert "512 tokens" in json.loads(caught.value.read())["error"]


class TestModels:
    """`[models.NAME]`, and one load for all who ask by any name."""

    PINNED: Final = 1024
    ALIAS: Final = "gpt-4o-mini"

    def test_a_context_that_is_configured_is_there_from_the_first_load_on(
        self, ollama: OllamaProcess, serve: Serve
    ) -> None:
        settings = {
            f"GATEWAY__MODELS__{self.ALIAS.upper()}__TARGET": MODEL,
            f"GATEWAY__MODELS__{self.ALIAS.upper()}__MAX_TOKENS": "3",
            f"GATEWAY__MODELS__{MODEL.upper()}__NUM_CTX": str(self.PINNED),
            f"GATEWAY__MODELS__{MODEL.upper()}__KEEP_ALIVE": "-1m",
        }
        with serve(**settings) as gateway, sdk(gateway) as client:
            wait_until(lambda: bool(ollama.loaded()), "the warm-up to load the model")
            (warm,) = ollama.loaded()
            assert (warm["name"], warm["context_length"]) == (MODEL, self.PINNED)
            assert int(warm["expires_at"][:4]) > 2200, "it stays for ever"
            runners = ollama.runners
            assert gateway.get(f"/v1/models/{self.ALIAS}").document["context_length"] == self.PINNED

            create = client.chat.completions.with_raw_response.create
            by_alias = create(model=self.ALIAS, messages=COLORS, max_tokens=60)
            other = create(model=MODEL, messages=COLORS, max_tokens=4, extra_body={"num_ctx": 512})
            assert other.headers["x-gateway-ignored-params"] == "num_ctx"
            assert "x-gateway-ignored-params" not in by_alias.headers
            completion = by_alias.parse()
            assert completion.model == self.ALIAS
            assert completion.usage is not None
            assert completion.usage.completion_tokens == 3
            assert completion.choices[0].finish_reason == "length"

            (after,) = ollama.loaded()
            assert after["context_length"] == self.PINNED
            assert ollama.runners == runners, "loaded once"

    async def test_a_load_by_itself_has_it_too_and_the_answer_after_it_needs_no_other(
        self, ollama: OllamaProcess
    ) -> None:
        http = HttpClient(timeouts=Timeouts(), limits=Limits(), clock=LoopClock())
        await http.start()
        try:
            backend = OllamaBackend(
                http=http, url=ollama.url, limits=Limits(), contexts={MODEL: self.PINNED // 2}
            )
            await backend.load(MODEL)
            (loaded,) = ollama.loaded()
            runners = ollama.runners
            request = GenerateRequest(
                model=MODEL, messages=(Message(Role.USER, "hi"),), max_tokens=4
            )
            async with backend.open(request) as stream:
                while await stream.read():
                    pass
        finally:
            await http.close()
        assert loaded["context_length"] == self.PINNED // 2
        assert ollama.runners == runners
        (end,) = stream.ends
        assert (end.timings.load_s or 0.0) < LOAD_S_MIN


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
