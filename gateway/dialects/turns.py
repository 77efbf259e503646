"""A conversation as any chat template can take it.

Templates are narrower than the APIs: many take a system message in the first place alone,
and roles that alternate. So a system message in the middle is told to the model within the
user's turn, in `<system>` tags, and turns of one role in a row are one turn. A system message
that moved to the front would make the engine read all of the conversation anew.
"""

from gateway.core.messages import Message, Part, Role, TextPart


def tell(messages: list[Message], text: str) -> None:
    """Adds what the system says, and not the user."""
    if all(message.role is Role.SYSTEM for message in messages):
        append(messages, Message(Role.SYSTEM, text))
    elif text:
        append(messages, Message(Role.USER, f"<system>\n{text}\n</system>"))


def append(messages: list[Message], message: Message) -> None:
    """Adds a message, to the one before it where that has the same role."""
    if messages and messages[-1].role is message.role:
        messages[-1] = _joined(messages[-1], message)
    elif message.role is not Role.SYSTEM or message.content:
        messages.append(message)


def _joined(first: Message, second: Message) -> Message:
    return Message(
        role=first.role,
        content=_joined_content(first, second),
        reasoning="\n".join(filter(None, (first.reasoning, second.reasoning))) or None,
        tool_calls=first.tool_calls + second.tool_calls,
    )


def _joined_content(first: Message, second: Message) -> str | tuple[Part, ...]:
    if isinstance(first.content, str) and isinstance(second.content, str):
        separator = "\n\n" if first.role is Role.SYSTEM else "\n"
        return separator.join(filter(None, (first.content, second.content)))
    return _parts(first) + _parts(second)


def _parts(message: Message) -> tuple[Part, ...]:
    if not isinstance(message.content, str):
        return message.content
    return (TextPart(message.content),) if message.content else ()
