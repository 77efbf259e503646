"""Which part of a prompt an engine has evaluated already. Pure.

An engine keeps what it has computed for the prompt that a slot ran last. The
next prompt in that slot is evaluated from the first token that differs. On a
processor this is most of what a request costs, so it matters which request
goes next, and how much of it is already there.

Prompts are compared without their text: a `Chain` has a mark after the tools,
after each message and, inside the first few as inside a text that is continued,
after 256, 512, 1024… characters; each mark is the hash of all that stands before
it. If two chains have a mark in common they have all marks before it, too, so the
longest common part is found by halving. Of two long messages that begin alike at
least half of what they share is found.

The hashes are Python's own, salted anew for each process: no caller can make
two prompts look alike, and a chain means nothing outside of this process.
"""

import itertools
from array import array
from collections.abc import Set
from typing import Final

import attrs

from gateway.core.jsonio import dumps
from gateway.core.messages import (
    EmbedRequest,
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    Tool,
)
from gateway.core.ticket import Chain

FIRST_MARK_CHARS: Final = 256
"""Where the first mark inside a message stands: some 64 tokens, a second on a small box."""

MARKED_INSIDE: Final = 4
"""Messages that have marks inside. What the prompts of different conversations have in common
stands in the first ones: instructions, examples, a document."""

IMAGE_CHARS: Final = 4096
"""What an image counts as: some 1,000 tokens, the order of what vision models make of one."""

TOKEN_CHARS: Final = 4
"""What a token id counts as, where a prompt comes as those."""

SIMILARITY_MIN: Final = 0.1
"""The part of a prompt that must be there already for it to take that sequence over.

llama.cpp's --slot-prompt-similarity, by default (ggml-org/llama.cpp #15913).
"""

_ALONE: Final = "a list of prompts"
_numbers: Final = itertools.count()

_IMAGE_ENDS_CHARS: Final = 1024
_NO_MARKS: Final[Set[int]] = frozenset()


def chain_of(request: GenerateRequest) -> Chain:
    """The marks of a prompt, in order; the last one covers all of it.

    The model is not part of it. Tools come first, as chat templates have them:
    with other tools nothing is shared.
    """
    marks: list[tuple[int, int]] = []
    chars = digest = 0
    if request.tools and request.tool_choice != "none":
        for tool in request.tools:
            chars, digest = _tool(tool, chars, digest)
        marks.append((chars, digest))
    for index, message in enumerate(request.messages):
        text = message.content
        # Identity stands for the role: members are single, and their own hash is slow.
        role = id(message.role)
        if not isinstance(text, str):
            text = message.text
            for image in message.images:
                chars += IMAGE_CHARS
                role = hash((role, _image(image)))
        if index >= MARKED_INSIDE or len(text) <= FIRST_MARK_CHARS:
            digest = hash((digest, role, text))
        else:
            digest = _inside(text, chars, hash((digest, role)), marks)
        chars += len(text)
        if message.tool_calls or message.reasoning:
            chars, digest = _beside(message, chars, digest)
        marks.append((chars, digest))
    if len(request.prompts) == 1:
        _prompt(request.prompts[0], marks)
    elif request.prompts:
        # In the end the slot holds only the last of them. So one mark that no other request
        # has: not even the same list is taken to be there already.
        marks.append((sum(map(_chars, request.prompts)), hash((_ALONE, next(_numbers)))))
    return tuple(marks)


def chars_of(request: EmbedRequest) -> int:
    """Of all that is to be embedded, token ids by what they usually stand for."""
    return sum(
        len(item) if isinstance(item, str) else len(item) * TOKEN_CHARS for item in request.inputs
    )


@attrs.define(eq=False)
class HeldPrompts:
    """What the slots of one upstream hold, as far as can be known from what it was sent.

    Which slot takes a prompt is the engine's choice. This follows llama.cpp: the
    one with the longest common prefix if that is worth it, else the least
    recently used. That a busy slot can't be taken over is not modelled; of two
    conversations that run at once and share a beginning one is forgotten too early.

    Attributes:
        slots: Sequences that it holds of each model; may change.
    """

    slots: int
    _held: dict[str, list[Set[int]]] = attrs.field(factory=dict, init=False)
    """By model the hashes of each sequence, the least recently used first."""
    _known: dict[str, Set[int]] = attrs.field(factory=dict, init=False)
    """By model the hashes of all sequences."""

    def cached_chars(self, model: str, chain: Chain) -> int:
        """How much of a prompt some slot holds. The engine evaluates the last token in any case."""
        return shared_chars(self.marks(model), chain)

    def marks(self, model: str) -> Set[int]:
        """The marks of all prompts that are held."""
        return self._known.get(model, _NO_MARKS)

    def ran(self, model: str, chain: Chain) -> None:
        """A request has started: from now on a slot holds its prompt."""
        held = self._held.setdefault(model, [])
        longest, nearest = 0, None
        for index, marks in enumerate(held):
            shared = shared_chars(marks, chain)
            if shared > longest:
                longest, nearest = shared, index
        if nearest is not None and longest > SIMILARITY_MIN * chain[-1][0]:
            del held[nearest]
        while len(held) >= max(self.slots, 1):
            del held[0]
        held.append(frozenset([digest for _, digest in chain]))
        self._known[model] = held[0] if len(held) == 1 else frozenset().union(*held)

    def forget(self, model: str) -> None:
        """The model was thrown out of memory."""
        self._held.pop(model, None)
        self._known.pop(model, None)

    def forget_all(self) -> None:
        """The engine was restarted, or may have been."""
        self._held.clear()
        self._known.clear()


def shared_chars(marks: Set[int], chain: Chain) -> int:
    """Characters up to the last mark of the chain that is among these.

    `marks` must be the hashes of whole chains: then all before a common one are common.
    """
    if not chain or chain[0][1] not in marks:
        return 0
    if chain[-1][1] in marks:
        return chain[-1][0]
    # Invariant: the mark at `low` is shared, the one at `high` is not.
    low, high = 0, len(chain) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if chain[middle][1] in marks:
            low = middle
        else:
            high = middle
    return chain[low][0]


def _inside(text: str | bytes, before: int, digest: int, marks: list[tuple[int, int]]) -> int:
    """Set the marks inside a long message or prompt; each character is hashed once."""
    start, end = 0, FIRST_MARK_CHARS
    while end < len(text):
        digest = hash((digest, text[start:end]))
        marks.append((before + end, digest))
        start, end = end, 2 * end
    return hash((digest, text[start:]))


def _prompt(prompt: Prompt, marks: list[tuple[int, int]]) -> None:
    """Set the marks of a text or of tokens that no template surrounds."""
    # Tokens as bytes, TOKEN_CHARS of them each: hashes of numbers are not salted.
    text = array("i", prompt.tokens).tobytes() if prompt.tokens else prompt.text
    digest = _inside(text, 0, 0, marks)
    marks.append((_chars(prompt), hash((digest, prompt.suffix))))


def _chars(prompt: Prompt) -> int:
    return len(prompt.text) + len(prompt.tokens) * TOKEN_CHARS + len(prompt.suffix or "")


def _tool(tool: Tool, chars: int, digest: int) -> tuple[int, int]:
    description = tool.description or ""
    schema = dumps(tool.parameters)
    chars += len(tool.name) + len(description) + len(schema)
    return chars, hash((digest, tool.name, description, schema))


def _beside(message: Message, chars: int, digest: int) -> tuple[int, int]:
    """What a turn of the assistant may have besides its text."""
    reasoning = message.reasoning or ""
    chars += len(reasoning)
    digest = hash((digest, reasoning))
    for call in message.tool_calls:
        chars += len(call.name) + len(call.arguments)
        digest = hash((digest, call.name, call.arguments))
    return chars, digest


def _image(image: ImagePart) -> int:
    """Images with the same length, beginning and end are the same: they are compressed.

    Hashing megabytes would hold up the event loop for milliseconds.
    """
    data = image.data
    return hash((len(data), data[:_IMAGE_ENDS_CHARS], data[-_IMAGE_ENDS_CHARS:]))
