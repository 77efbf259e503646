"""What is asked in a run: drawn from a seed, the same whichever policy then meets it."""

import math
import random
from collections.abc import Sequence
from typing import Final

import attrs

from bench.answers import Lengths, Uniform
from bench.simulation.asks import Ask, Part, part
from gateway.core.messages import Role
from gateway.core.ticket import ANONYMOUS, Caller, Priority


@attrs.frozen(kw_only=True)
class Mix:
    """A kind of requests.

    Attributes:
        models: Taken in turn.
        conversations: So many take turns, each with its beginning of `prefix_tokens`; 0: each
            request has a prompt of its own.
        told: Each request says how long its answer will be, by its `max_tokens`: as load
            tests do, and programs that know what they want.
        grows: A conversation's next prompt holds the last one and its answer.
        streams, uncut: The parts of all that are streams, or are of no use in part.
        noise: Standard deviation of the logarithm of a request's pace.
    """

    lengths: Lengths = Uniform(8, 32)
    max_tokens: int | None = None
    told: bool = False
    prompt_tokens: int = 20
    models: Sequence[str] = ("m",)
    conversations: int = 0
    prefix_tokens: int = 1000
    grows: bool = False
    streams: float = 0.0
    uncut: float = 0.0
    noise: float = 0.0
    caller: Caller = ANONYMOUS
    priority: Priority | None = None
    timeout_s: float | None = None


ENDLESS: Final = 1_000_000
"""Tokens of an answer that ends by its cap alone."""


class Maker:
    """Makes one request after the other of a mix. One caller is asked for by one maker."""

    def __init__(self, mix: Mix, dice: random.Random) -> None:
        self._mix = mix
        self._dice = dice
        self._name = mix.caller.name
        self._made = 0
        self._beginnings: dict[int, tuple[Part, ...]] = {}

    def make(self) -> Ask:
        mix, dice, number = self._mix, self._dice, self._made
        self._made += 1
        natural = mix.lengths.draw(dice)
        said = part(Role.USER, f"{self._name}{number}", mix.prompt_tokens)
        conversation = number % mix.conversations if mix.conversations else None
        beginning = () if conversation is None else self._beginning(conversation)
        ask = Ask(
            name=f"{self._name}{number}",
            model=mix.models[number % len(mix.models)],
            prompt=(*beginning, said),
            natural=ENDLESS if mix.told else natural,
            max_tokens=natural if mix.told else mix.max_tokens,
            stream=dice.random() < mix.streams,
            uncut=dice.random() < mix.uncut,
            caller=mix.caller,
            priority=mix.priority,
            session="" if conversation is None else f"{self._name}{conversation}",
            timeout_s=mix.timeout_s,
            pace=dice.lognormvariate(0.0, mix.noise) if mix.noise else 1.0,
        )
        if conversation is not None and mix.grows:
            reply = part(Role.ASSISTANT, f"{self._name}r{number}", ask.length)
            self._beginnings[conversation] = (*beginning, said, reply)
            return attrs.evolve(ask, reply=reply)
        return ask

    def _beginning(self, conversation: int) -> tuple[Part, ...]:
        found = self._beginnings.get(conversation)
        if found is None:
            name = f"{self._name}c{conversation}"
            found = (part(Role.SYSTEM, name, self._mix.prefix_tokens),)
            self._beginnings[conversation] = found
        return found


def moments(dice: random.Random, *, per_s: float, until: float) -> list[float]:
    """When independent clients ask: a Poisson process."""
    found: list[float] = []
    now = 0.0
    while per_s > 0.0:
        now += -math.log(1.0 - dice.random()) / per_s
        if now >= until:
            break
        found.append(now)
    return found
