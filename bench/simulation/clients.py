"""Those who ask: once, again as the SDK does, or over and over."""

import random
from collections.abc import Callable
from typing import Final

import attrs

from bench.retries import Retries, told_s
from bench.simulation.asks import Ask
from bench.simulation.events import Events
from bench.simulation.policies import Attempt, End, Policy

NEVER: Final = Retries(count_max=0)

PAUSE_S: Final = 1.0
"""So long waits who is refused, wants an answer, and is not told when to come back."""


@attrs.define(eq=False)
class Story:
    """A request and all its tries, the last of which is how it ended."""

    ask: Ask
    attempts: list[Attempt] = attrs.field(factory=list)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]


@attrs.frozen(kw_only=True)
class Habits:
    """How a client behaves.

    Attributes:
        counts: It says how often it has tried, as the SDK does also where it never does.
        heeds: In a loop, after a refusal that was the last try, it comes when it was told.
    """

    retries: Retries = NEVER
    counts: bool = True
    heeds: bool = True


SDK: Final = Habits(retries=Retries())
"""openai-python as it comes."""

HASTY: Final = Habits(counts=False, heeds=False)
"""One that, refused, asks again each second."""

ONCE: Final = Habits(counts=False)
"""A program that sends a request and takes what it gets."""


class Clients:
    """Sends what is asked, and keeps what became of it.

    Args:
        deadline_s: How long a client waits that doesn't say.
    """

    def __init__(
        self, *, events: Events, policy: Policy, deadline_s: float, dice: random.Random
    ) -> None:
        self.stories: list[Story] = []
        self._events = events
        self._policy = policy
        self._deadline_s = deadline_s
        self._dice = dice

    def ask(
        self, ask: Ask, habits: Habits, *, ended: Callable[[Story], None] | None = None
    ) -> None:
        """Send it now, and try again as the client's habits are."""
        story = Story(ask)
        self.stories.append(story)
        self._try(story, habits, ended)

    def loop(
        self, make: Callable[[], Ask], habits: Habits, *, until: float, think_s: float = 0.0
    ) -> None:
        """Ask, and ask anew after each end; who is refused for good comes back later."""

        def next_one(story: Story | None) -> None:
            wait_s = 0.0
            if story is not None:
                wait_s = think_s
                if story.last.end is End.REFUSED:
                    told = told_s(story.last.headers, wall_s=0.0) if habits.heeds else None
                    wait_s = told or PAUSE_S
            when = self._events.now + wait_s
            if when < until:
                self._events.at(when, lambda: self.ask(make(), habits, ended=next_one))

        next_one(None)

    def _try(self, story: Story, habits: Habits, ended: Callable[[Story], None] | None) -> None:
        ask = story.ask
        deadline_s = self._deadline_s
        if ask.timeout_s is not None:
            deadline_s = min(deadline_s, ask.timeout_s)

        def done(attempt: Attempt) -> None:
            retries = habits.retries
            taken = len(story.attempts) - 1
            if (
                attempt.status >= 400
                and taken < retries.count_max
                and retries.again(attempt.status, attempt.headers, wall_s=0.0)
            ):
                wait_s = retries.wait_s(attempt.headers, taken=taken, dice=self._dice, wall_s=0.0)
                when = self._events.now + wait_s
                self._events.at(when, lambda: self._try(story, habits, ended))
                return
            if ended is not None:
                ended(story)

        attempt = Attempt(
            ask=ask,
            retries=len(story.attempts) if habits.counts else None,
            sent_at=self._events.now,
            deadline_s=deadline_s,
            done=done,
        )
        story.attempts.append(attempt)
        if ask.leaves_after_s is not None:
            leaves_at = self._events.now + ask.leaves_after_s
            self._events.at(leaves_at, lambda: self._policy.leave(attempt))
        self._policy.send(attempt)
