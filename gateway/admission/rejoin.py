"""Which answers a client may come back for: the table of what runs, or has just ended.

A client that drops its request and sends it again should get the answer that
already runs. It is known by who it is and what it asked, so by nothing that
tells it from another of the same caller with the very same prompt; and those
two want an answer each. Hence the rules:

- A request that is sent for the first time never gets an answer that was begun
  for another; only a retry does.
- An answer is free once the client that it was for has left, and while no other
  one replays it. So each answer that was lost is given to one client.
- One that was delivered, as far as can be seen, may have been lost on its last
  yard. It is given again only if no other client has asked the same lately: else
  the retry could come from one that was refused, and was never given any.

Deciding code: reads no clock, awaits nothing.
"""

import math
from collections import OrderedDict
from collections.abc import Container
from typing import Final

import attrs

from gateway.backends.recording import BYTES_MAX, Recording, State

KEPT_S: Final = 30.0
"""How long an answer is kept after its end. SDKs come back within 8 s by themselves."""

RETURNS_S: Final = 150.0
"""How long a client is expected to come back: the longest Retry-After that SDKs obey, and some."""

ANSWERS_MAX: Final = 1000
"""Ended answers that are kept at once."""

CLIENTS_MAX: Final = 8192
"""Different requests that are remembered at once, in 4 MiB."""


@attrs.frozen(cache_hash=True)
class Key:
    """What makes a request the same.

    Attributes:
        caller: Its name.
        flow: Of the ticket: the caller, or which of its end users.
        fingerprint: Digest of the body; never empty.
    """

    caller: str
    flow: str
    fingerprint: bytes


class Rejoin:
    """Answers that run or have just ended, by what was asked.

    Owns every recording from `begin` to `ended` or, if it was whole, KEPT_S
    longer. Together they never keep more than `bytes_max`.

    Args:
        bytes_max: Of all recordings. What has ended gives way first, the oldest
            before others; then what runs.
        clients_max: Different requests of which it is remembered how many asked them.

    Attributes:
        bytes: What all recordings keep now.
    """

    def __init__(self, *, bytes_max: int, clients_max: int = CLIENTS_MAX) -> None:
        self._bytes_max = bytes_max
        self._by_key: dict[Key, list[Recording]] = {}
        self._running: dict[Recording, Key] = {}
        self._ended: OrderedDict[Recording, tuple[Key, float]] = OrderedDict()
        self._clients = _Clients(clients_max, answered=self._by_key)
        self.bytes = 0

    def resize(self, bytes_max: int) -> None:
        """From now on all recordings together may keep so many bytes; what is over gives way."""
        self._bytes_max = bytes_max
        self._make_room()

    def met(self, key: Key, now: float) -> None:
        """A client has sent this request for the first time. To be told of refused ones too."""
        self._forget_old(now)
        self._clients.met(key, now)

    def find(self, key: Key, now: float) -> Recording | None:
        """What a retry may replay; it is taken when the replay begins, which has to be at once.

        Lost answers go before delivered ones, of each the one that was begun first.
        """
        self._clients.seen(key, now)
        self._forget_old(now)
        free = [recording for recording in self._by_key.get(key, ()) if recording.free]
        for recording in free:
            if not recording.delivered:
                return recording
        return free[0] if free and self._clients.alone(key, now) else None

    def begin(self, key: Key, now: float, *, answers: int = 1) -> Recording:
        """Keep the answer of a request that is about to be opened. Whoever calls this owes `ended`.

        Args:
            answers: The request's `n`.
        """
        assert key.fingerprint, "without one, all requests would be the same"
        recording = Recording(
            answers=answers, bytes_max=min(BYTES_MAX, self._bytes_max), grew=self._grew
        )
        self._running[recording] = key
        self._by_key.setdefault(key, []).append(recording)
        self._clients.begun(key, now)
        return recording

    def ended(self, recording: Recording, now: float) -> None:
        """Its recorder has been left."""
        assert not recording.running
        key = self._running.pop(recording)
        if recording.state is State.DONE:
            self._ended[recording] = (key, now)
            if len(self._ended) > ANSWERS_MAX:
                self._forget_oldest()
        else:
            self._take_out(recording, key)

    def _forget_old(self, now: float) -> None:
        while self._ended:
            _, ended_at = next(iter(self._ended.values()))
            if now < ended_at + KEPT_S:
                break
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        # A replay of it that has begun goes on: it has the whole answer.
        recording, (key, _) = self._ended.popitem(last=False)
        self._take_out(recording, key)
        recording.spill()

    def _take_out(self, recording: Recording, key: Key) -> None:
        same = self._by_key[key]
        same.remove(recording)
        if not same:
            del self._by_key[key]

    def _grew(self, growth: int) -> None:
        self.bytes += growth
        # What gives way is told of here too.
        if growth > 0 and self.bytes > self._bytes_max:
            self._make_room()

    def _make_room(self) -> None:
        while self._ended and self.bytes > self._bytes_max:
            self._forget_oldest()
        # Where the client is still there, it does not even notice. What is being
        # replayed goes last, since that breaks the replay.
        for recording in sorted(self._running, key=_loss):
            if self.bytes <= self._bytes_max:
                break
            recording.spill()


def _loss(recording: Recording) -> tuple[bool, bool]:
    """What a running recording's end would cost, for comparing."""
    return recording.replays > 0, not recording.attended


@attrs.define(eq=False)
class _Asked:
    """How many clients have asked the same, as far as is known, and when one was last heard of."""

    heard_at: float
    clients: int = 1


class _Clients:
    """Who may come back: how many clients have asked what.

    Args:
        bound: Different requests that are remembered. Beyond it the oldest is
            forgotten, and for RETURNS_S nobody counts as the only one any more.
        answered: What has an answer; is remembered for as long as it has.
    """

    def __init__(self, bound: int, answered: Container[Key]) -> None:
        self._bound = bound
        self._answered = answered
        self._asked: OrderedDict[Key, _Asked] = OrderedDict()
        self._sure_from = -math.inf

    def met(self, key: Key, now: float) -> None:
        """A client who has not asked before."""
        self._forget_old(now)
        if key in self._asked:
            self.seen(key, now)
            self._asked[key].clients += 1
        else:
            self._note(key, now)

    def begun(self, key: Key, now: float) -> None:
        """A client whose answer begins: if it was not met, that was before we remember."""
        if key not in self._asked:
            self._note(key, now)

    def seen(self, key: Key, now: float) -> None:
        """One of those who have asked was heard of again."""
        asked = self._asked.get(key)
        if asked is not None:
            asked.heard_at = now
            self._asked.move_to_end(key)

    def alone(self, key: Key, now: float) -> bool:
        """Whether just one client has asked this, for all that is known."""
        asked = self._asked.get(key)
        return asked is not None and asked.clients == 1 and now >= self._sure_from

    def _note(self, key: Key, now: float) -> None:
        if len(self._asked) >= self._bound:
            self._asked.popitem(last=False)
            self._sure_from = now + RETURNS_S
        self._asked[key] = _Asked(now)

    def _forget_old(self, now: float) -> None:
        while self._asked:
            key, asked = next(iter(self._asked.items()))
            if now < asked.heard_at + RETURNS_S:
                break
            if key in self._answered:
                self.seen(key, now)
            else:
                del self._asked[key]
