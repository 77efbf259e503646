"""How urgent a request is, and whose share of the slots it uses. Pure."""

from collections.abc import Mapping
from typing import Final

from gateway.core.messages import GenerateRequest, Request, Role, ServiceTier
from gateway.core.ticket import Caller, Hints, Priority

_TIERS: Final[Mapping[ServiceTier, Priority]] = {
    "flex": Priority.BATCH,
    "priority": Priority.INTERACTIVE,
}


def class_of(
    request: Request, caller: Caller, hints: Hints, background_prompts: tuple[str, ...]
) -> Priority:
    """The class of a request.

    The caller's own, unless the request asks for another: by its service tier,
    by a header, or by both, of which the less urgent holds. Its own class it may
    always ask for, more urgent ones as far as `priority_max` goes. A wish beyond
    is cut to that and not refused: who asks to be served sooner does not ask to
    be turned away.

    Args:
        background_prompts: What the last message begins with when a chat UI asks
            by itself, for the title of a chat or its tags. That is always batch,
            or a user's next message would wait behind the title of the last one.
    """
    wish = hints.priority
    if isinstance(request, GenerateRequest):
        if background_prompts and _asked_last(request).startswith(background_prompts):
            return Priority.BATCH
        if request.service_tier is not None:
            tier = _TIERS[request.service_tier]
            wish = tier if wish is None else max(wish, tier)
    if wish is None:
        return caller.priority
    return max(wish, min(caller.priority, caller.priority_max))


def _asked_last(request: GenerateRequest) -> str:
    """What a user has said last; "" where somebody else has."""
    if not request.messages:
        return request.prompts[-1].text if request.prompts else ""
    last = request.messages[-1]
    return last.text if last.role is Role.USER else ""


def flow_of(caller: Caller, hints: Hints) -> str:
    """Whose share of the slots a request uses: the caller's, or one of its end users'.

    A caller's name holds no `/` (see gateway/config/checks.py), so two callers
    never meet in one flow. Not for a metric's label: the second part is the
    caller's to choose.
    """
    return f"{caller.name}/{hints.user}" if hints.user else caller.name
