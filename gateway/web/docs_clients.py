"""How clients are told where the gateway is: settings to copy.

What each takes was read in its source: openai-python 3.54, openai-node 6.49, anthropic
2.12, ollama-python 0.6.3, langchain-openai 1.7, pydantic-ai 2.68, instructor 1.17,
@ai-sdk/openai-compatible 2.0, llm 0.36; Open WebUI's `env.py`.
"""

from typing import Final

import attrs

BASE: Final = "@base@"
"""Stands for the URL by which the reader has reached the gateway, without a slash at its end."""


@attrs.frozen
class Settings:
    """One client.

    Attributes:
        text: To be copied; `key` and `BASE` stand for what the reader has.
    """

    client: str
    text: str
    note: str = ""


def settings(*, key: str) -> tuple[Settings, ...]:
    """Every client that is told of.

    Args:
        key: What stands for the reader's key.
    """
    return (
        Settings(
            "curl",
            f"curl {BASE}/v1/chat/completions \\\n"
            f"  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n"
            '  -d \'{"model": "default", '
            '"messages": [{"role": "user", "content": "Say hello."}]}\'',
        ),
        Settings(
            "Whatever uses OpenAI's SDKs",
            f"export OPENAI_BASE_URL={BASE}/v1\nexport OPENAI_API_KEY={key}",
        ),
        Settings(
            "openai (Python)",
            "from openai import OpenAI\n\n"
            f'client = OpenAI(base_url="{BASE}/v1", api_key="{key}")\n'
            "answer = client.chat.completions.create(\n"
            '    model="default", messages=[{"role": "user", "content": "Say hello."}]\n'
            ")\n"
            "print(answer.choices[0].message.content)",
        ),
        Settings(
            "openai (Node)",
            'import OpenAI from "openai";\n\n'
            f'const client = new OpenAI({{ baseURL: "{BASE}/v1", apiKey: "{key}" }});\n'
            "const answer = await client.chat.completions.create({\n"
            '  model: "default",\n'
            '  messages: [{ role: "user", content: "Say hello." }],\n'
            "});\n"
            "console.log(answer.choices[0].message.content);",
        ),
        Settings(
            "LangChain",
            "from langchain_openai import ChatOpenAI\n\n"
            f'model = ChatOpenAI(model="default", base_url="{BASE}/v1", api_key="{key}")\n'
            'print(model.invoke("Say hello.").content)',
        ),
        Settings(
            "pydantic-ai",
            "from pydantic_ai import Agent\n"
            "from pydantic_ai.models.openai import OpenAIChatModel\n"
            "from pydantic_ai.providers.openai import OpenAIProvider\n\n"
            f'provider = OpenAIProvider(base_url="{BASE}/v1", api_key="{key}")\n'
            'agent = Agent(OpenAIChatModel("default", provider=provider))\n'
            'print(agent.run_sync("Say hello.").output)',
        ),
        Settings(
            "instructor",
            "import instructor\n"
            "from openai import OpenAI\n\n"
            "client = instructor.from_openai(\n"
            f'    OpenAI(base_url="{BASE}/v1", api_key="{key}"), mode=instructor.Mode.JSON_SCHEMA\n'
            ")",
            note="In this mode the model can't write what does not fit.",
        ),
        Settings(
            "Vercel AI SDK",
            'import { createOpenAICompatible } from "@ai-sdk/openai-compatible";\n'
            'import { generateText } from "ai";\n\n'
            "const gateway = createOpenAICompatible({\n"
            '  name: "gateway",\n'
            f'  baseURL: "{BASE}/v1",\n'
            f'  apiKey: "{key}",\n'
            "  supportsStructuredOutputs: true,\n"
            "});\n"
            "const answer = await generateText({\n"
            '  model: gateway("default"),\n'
            '  prompt: "Say hello.",\n'
            "});\n"
            "console.log(answer.text);",
        ),
        Settings(
            "llm, the command",
            "- model_id: gateway\n"
            "  model_name: default\n"
            f"  api_base: {BASE}/v1\n"
            "  api_key_name: gateway\n"
            "  supports_schema: true\n"
            "  supports_tools: true",
            note="In extra-openai-models.yaml, beside the file that llm logs path names. "
            "The key is asked for by llm keys set gateway.",
        ),
        Settings(
            "Open WebUI",
            f"OPENAI_API_BASE_URL={BASE}/v1\nOPENAI_API_KEY={key}\nENABLE_OLLAMA_API=false",
            note="The last line keeps it from going round the queue to an Ollama of its own.",
        ),
        Settings(
            "anthropic (Python)",
            "from anthropic import Anthropic\n\n"
            f'client = Anthropic(base_url="{BASE}", api_key="{key}")\n'
            "answer = client.messages.create(\n"
            '    model="default",\n'
            "    max_tokens=256,\n"
            '    messages=[{"role": "user", "content": "Say hello."}],\n'
            ")\n"
            "print(answer.content[0].text)",
            note="Its base URL has no /v1.",
        ),
        Settings(
            "Coding agents that speak Anthropic's API",
            f"export ANTHROPIC_BASE_URL={BASE}\n"
            f"export ANTHROPIC_AUTH_TOKEN={key}\n"
            "export ANTHROPIC_MODEL=default",
        ),
        Settings(
            "The ollama command and Ollama's libraries",
            f"export OLLAMA_HOST={BASE}\nexport OLLAMA_API_KEY={key}",
            note="The Python library sends the key; the command has none to send, so it needs a "
            "gateway without keys, or a proxy that adds one.",
        ),
    )
