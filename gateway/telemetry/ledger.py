"""Counts what each caller uses, by day and model: the third telling of every request's record.

Counts gather in memory and go to a `Store` about once a second, all of them in one batch. A
batch has a name, and is sent again under the same name until the store has it: so nothing is
counted twice, and nothing is lost while a disk is full, for as long as the process lives.
What waits is bounded, since it is counted and not listed: by callers, models and days.

The loop never waits for the store. It is asked on one thread of its own.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from gateway.config.effective import untagged
from gateway.core.clock import Clock
from gateway.core.errors import ConfigError, StorageBusy
from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import OTHER
from gateway.telemetry.usage import By, Counts, Key, counts_of, day_of, merge, totals
from gateway.telemetry.usage_store import Store, StoreFailed

log = logging.getLogger("gateway.usage")

SAVE_EVERY_S: Final = 1.0
"""As much is lost when the machine loses its power."""

LAST_SAVE_S: Final = 5.0
"""For the last batch, at the end; a disk that takes longer takes nothing any more."""

READ_S: Final = 10.0
"""For whoever asks what was used."""

DAYS_COUNTED: Final = 2
"""In memory, for the limits: a clock that is set back across midnight finds its day again."""

DAY_S: Final = 86_400.0

T = TypeVar("T")


class Ledger:
    """Owns what was counted and is not stored yet, and the totals of today.

    Args:
        failed: Called for each attempt at the store that failed. Must not raise.
        run: A word that no other run of the gateway has, for the names of batches.
    """

    def __init__(self, *, store: Store, clock: Clock, failed: Callable[[], None], run: str) -> None:
        self._store = store
        self._clock = clock
        self._failed = failed
        self._run = run
        self._numbers = itertools.count(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")
        self._models: Collection[str] = frozenset()
        self._pending: dict[Key, Counts] = {}
        self._sending: dict[Key, Counts] = {}
        self._batch = ""
        self._days: dict[str, dict[str, Counts]] = {}
        self._day_number, self._day = -1.0, ""
        self._recalled = False
        self._failing = False

    # --- Counting -------------------------------------------------------------

    def told(self, record: RequestRecord) -> None:
        """A request has ended."""
        if record.rejoined:
            return  # It is told by the request that it came back for.
        day = self._today()
        model = untagged(record.model)
        counts = counts_of(record)
        key = Key(day, record.caller, model if model in self._models else OTHER)
        merge(self._pending, ((key, counts),))
        merge(self._of_day(day), ((record.caller, counts),))

    def set_models(self, names: Iterable[str]) -> None:
        """These models are there now; a caller may ask for any name it makes up."""
        self._models = frozenset(map(untagged, names))

    # --- Today --------------------------------------------------------------------

    def tokens(self, caller: str) -> int:
        """Of prompts and answers that this caller has had today."""
        return self.today(caller).tokens

    def today(self, caller: str) -> Counts:
        """All that this caller has had today."""
        return self._days.get(self._today(), {}).get(caller) or Counts()

    def everybody_today(self) -> Mapping[str, Counts]:
        """The same of every caller who has had anything."""
        return self._days.get(self._today(), {})

    def left_s(self) -> float:
        """Until the next day of UTC."""
        return DAY_S - self._clock.wall() % DAY_S

    # --- The store ----------------------------------------------------------------

    def recall(self) -> None:
        """Go on from what was stored of today. Blocks; for the start.

        Raises:
            ConfigError: What is there can't be used, and would not be by waiting.
        """
        try:
            self._remember(self._store.totals(self._today(), "caller"))
        except StoreFailed as error:
            self._has_failed(error)

    async def run(self) -> None:
        """Store what was counted, once a second and at the end."""
        try:
            while True:
                await self._clock.sleep(SAVE_EVERY_S)
                await self.save()
        finally:
            await self._end()

    async def save(self) -> None:
        """Store what was counted; what can't be stored now goes along the next time."""
        if not self._sending and self._recalled:
            if not self._pending:
                return
            self._sending, self._pending = self._pending, {}
            self._batch = f"{self._run}-{next(self._numbers)}"
        try:
            if not self._recalled:
                self._remember(await self._ask(self._store.totals, self._today(), "caller"))
            else:
                await self._ask(self._store.add, self._batch, self._sending)
                self._sending = {}
        except (StoreFailed, ConfigError) as error:
            self._has_failed(error)
        else:
            if self._failing:
                self._failing = False
                log.info("usage is stored again", extra={"event": "usage_stored_again"})

    async def totals(self, since: str, by: By) -> dict[str, Counts]:
        """From this day on, what is not stored yet too.

        Raises:
            StorageBusy: The store can't be had at the moment.
        """
        try:
            async with asyncio.timeout(READ_S):
                found = await self._ask(self._store.totals, since, by)
        except (StoreFailed, ConfigError, TimeoutError):
            raise StorageBusy(
                "What was used can't be read at the moment.", retry_after_s=SAVE_EVERY_S
            ) from None
        for waiting in (self._sending, self._pending):
            merge(found, totals(waiting, since, by).items())
        return found

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                # What is to be recalled, what was on its way, and what has come since.
                for _ in range(3):
                    await self.save()
                    if not (self._sending or self._pending):
                        break
                await self._ask(self._store.close)
        except TimeoutError:
            log.error("usage of the last seconds is not stored: the disk does not answer")
        finally:
            self._thread.shutdown(wait=False)

    async def _ask(self, method: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, method, *arguments)

    def _remember(self, stored: Mapping[str, Counts]) -> None:
        """What had been used today before this life began."""
        merge(self._of_day(self._today()), stored.items())
        self._recalled = True

    def _has_failed(self, error: Exception) -> None:
        self._failed()
        if not self._failing:
            self._failing = True
            log.error(
                "usage can't be stored, it is kept in memory: %s",
                error,
                extra={"event": "usage_not_stored"},
            )

    def _today(self) -> str:
        number = self._clock.wall() // DAY_S
        if number != self._day_number:  # Spelling a day takes longer than all the rest.
            self._day_number, self._day = number, day_of(number * DAY_S)
        return self._day

    def _of_day(self, day: str) -> dict[str, Counts]:
        if day not in self._days:
            self._days[day] = {}
            if len(self._days) > DAYS_COUNTED:
                del self._days[next(iter(self._days))]
        return self._days[day]
