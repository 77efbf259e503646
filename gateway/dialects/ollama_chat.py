"""Ollama's native chat: what a request may hold, and how it becomes one of ours.

Source: ollama v0.24.0, api/types.go, `ChatRequest`, and server/routes.go, `ChatHandler`.
"""

from typing import Final

from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import Reading, Table
from gateway.dialects.ollama_chat_messages import MESSAGES, TOOLS
from gateway.dialects.ollama_encode import CHAT, OllamaEncoder
from gateway.dialects.ollama_parameters import COMMON, REQUIRED, answer_wanted, nothing_asked

PARAMETERS: Final[Table] = {**COMMON, "messages": MESSAGES, "tools": TOOLS}


class OllamaChat(Reading):
    """POST /api/chat. See `Dialect`."""

    stream_type: Final = "application/x-ndjson"

    parameters = PARAMETERS
    required = REQUIRED
    json_only = False

    def parse(self, body: bytes | bytearray) -> Parsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        return answer_wanted(draft) if draft.request.get("messages") else nothing_asked(draft)

    def encoder(self, parsed: Parsed, head: ReplyHead) -> OllamaEncoder:
        return OllamaEncoder(head, CHAT, wants=parsed.wants)
