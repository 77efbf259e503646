"""How clients are told where the gateway is: settings to copy.

What each takes was read in its source: openai-python 3.54, openai-node 6.49, anthropic
2.12, ollama-python 0.6.3, langchain-openai 1.7; Open WebUI's `env.py`.
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
