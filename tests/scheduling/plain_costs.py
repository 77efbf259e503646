"""Prices that can be reckoned in the head."""

import math

from gateway.core.messages import GenerateRequest, Message, Role
from gateway.core.ticket import Cost
from gateway.scheduling.estimate import CostModel, Work

READ_S = 0.01
"""A character."""

LOAD_S = 5.0


class PlainCosts(CostModel):
    """A token is written in a second, and each answer is as long as it may be.

    Args:
        spread_s: Of each request.
        sure: Of all models in the engine's spelling; what it is not sure of, nobody is
            refused for.
    """

    def __init__(self, *, spread_s: float = 0.0, sure: tuple[str, ...] = ("m",)) -> None:
        super().__init__()
        self.spread_s = spread_s
        self._sure = sure

    def price(self, upstream: str, model: str, work: Work, *, concurrency: int) -> Cost:
        return Cost(
            prefill_s=(work.prompt_chars - work.cached_chars) * READ_S,
            decode_s=float(work.max_tokens * work.answers),
            spread_s=self.spread_s,
            prompt_tokens=math.ceil(work.prompt_chars / 4),
        )

    def left_s(
        self,
        upstream: str,
        model: str,
        work: Work,
        cost: Cost,
        so_far_s: float,
        *,
        concurrency: int,
    ) -> float:
        return max(cost.service_s - so_far_s, 0.0)

    def load_s(self, upstream: str, model: str) -> float:
        return LOAD_S

    def confident(self, upstream: str, model: str) -> bool:
        return model in self._sure


def asks(tokens: int = 10, *texts: str, model: str = "m", stream: bool = False) -> GenerateRequest:
    """A request that takes so many seconds to answer, and its messages to read."""
    messages = [Message(role=Role.USER, content=text) for text in texts or ("",)]
    return GenerateRequest(model=model, messages=tuple(messages), max_tokens=tokens, stream=stream)
