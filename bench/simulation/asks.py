"""What simulated clients ask, and the truth about it that no policy is told."""

from typing import Final

import attrs

from bench.answers import TOKEN_CHARS
from gateway.core.messages import GenerateRequest, JsonObject, Message, Role
from gateway.core.ticket import ANONYMOUS, Caller, Priority


@attrs.frozen(eq=False)
class Part:
    """A piece of a prompt. Prompts that begin with the very same parts share a beginning."""

    message: Message
    tokens: int


def part(role: Role, name: str, tokens: int) -> Part:
    """A piece of so many tokens, unlike any of another name."""
    word = f"{name} "
    chars = tokens * TOKEN_CHARS
    return Part(Message(role, (word * (chars // len(word) + 1))[:chars]), tokens)


def shared_tokens(one: tuple[Part, ...], other: tuple[Part, ...]) -> int:
    """Tokens with which both begin."""
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine is not theirs:
            break
        shared += mine.tokens
    return shared


@attrs.frozen(kw_only=True, eq=False)
class Ask:
    """One request, with all its tries.

    Attributes:
        name: Of no other in its run.
        natural: Tokens of its answer if no limit cuts it.
        pace: Of its work: 2.0 takes twice as long as the box's rates say.
        reply: Its answer as a part, where a later prompt has it; tokens as `length`.
        uncut: An answer that is of no use in part, and so is not cut at its deadline.
        timeout_s: How long the client waits, and says that it does.
        leaves_after_s: The client goes away then, answered or not.
    """

    name: str
    model: str
    prompt: tuple[Part, ...]
    natural: int
    max_tokens: int | None = None
    stream: bool = False
    uncut: bool = False
    caller: Caller = ANONYMOUS
    priority: Priority | None = None
    session: str = ""
    timeout_s: float | None = None
    leaves_after_s: float | None = None
    pace: float = 1.0
    reply: Part | None = None

    @property
    def length(self) -> int:
        """Tokens of its answer."""
        return self.natural if self.max_tokens is None else min(self.natural, self.max_tokens)

    @property
    def prompt_tokens(self) -> int:
        return sum(part.tokens for part in self.prompt)

    @property
    def request(self) -> GenerateRequest:
        """As the gateway sees it."""
        return GenerateRequest(
            model=self.model,
            messages=tuple([part.message for part in self.prompt]),
            max_tokens=self.max_tokens,
            stream=self.stream,
            output_format=_JSON if self.uncut else None,
        )


_JSON: Final = JsonObject()
