"""A box behind the gateway, and the loads that are put on one and the other."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
import uvloop

from bench.asking import Client
from bench.load import ClosedLoop, Plan, run
from bench.prompts import Unique
from bench.replies import Ollama, OpenAI
from bench.results import Result
from bench.retries import Retries
from bench.trials import served
from bench.trials.cases import DEADLINE_S, LEVELS, PATIENCE_S, scaled
from bench.trials.known import Known
from bench.trials.served import Served, Tables

WARM_UP_S: Final = 120.0
ONCE: Final = Retries(count_max=0)

_NONE: Final[Tables] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Scope:
    """How fast the boxes go, and how long loads last in their seconds."""

    scale: float = 10.0
    loop_s: float = 200.0
    levels: tuple[int, ...] = LEVELS


QUICK: Final = Scope(loop_s=60.0, levels=(1, 20, 60))


@attrs.frozen(kw_only=True)
class Stand:
    """A box behind the gateway. Durations given are seconds of the box."""

    at: Served
    scope: Scope

    def client(
        self, *, direct: bool = False, deadline_s: float = DEADLINE_S, **more: Any
    ) -> Client:
        """Who has a deadline and does not come back, unless `more` says otherwise.

        Past the gateway nobody but the client keeps the deadline: it leaves then.
        """
        scale = self.at.scale
        base = Client(
            dialect=Ollama() if direct else OpenAI(),
            models=self.at.models,
            max_tokens=self.at.max_tokens,
            deadline_s=deadline_s / scale,
            timeout_s=(deadline_s if direct else max(deadline_s, PATIENCE_S)) / scale,
            retries=ONCE,
        )
        return attrs.evolve(base, **more)

    def retries(self) -> Retries:
        """Those of openai-python."""
        return Retries().scaled(self.at.scale)

    def url(self, client: Client) -> str:
        """Where such a client asks."""
        if isinstance(client.dialect, OpenAI):
            return self.at.url
        assert self.at.engine_url is not None
        return self.at.engine_url

    def put(self, plan: Plan, client: Client) -> list[Result]:
        """Put a load on the gateway or, if the client speaks Ollama's API, on the box."""
        self.reset()
        return uvloop.run(run(self.url(client), scaled(plan, self.at.scale), client))

    def reset(self) -> None:
        """Let the box, once it is idle, count from 0."""
        if self.at.box_url is not None:
            served.reset_box(self.at.box_url)

    def state(self) -> Mapping[str, Any]:
        """What the box has done for the last load."""
        assert self.at.box_url is not None
        return served.box_state(self.at.box_url)

    def known(self, client: Client) -> Known:
        return Known(served.box_settings(self.at.scale, told=self.at.told), client)

    def answered_504(self) -> float:
        """Accepted requests whose time ran out, as the gateway counts them."""
        found = served.metrics(self.at.url)
        return sum(
            value
            for name, value in found.items()
            if name.startswith("requests_total{") and 'status="504"' in name
        )


@contextlib.contextmanager
def box_stand(
    scope: Scope,
    *,
    models: tuple[str, ...] = ("box:latest",),
    more: Tables = _NONE,
    key: str = "",
    told: bool = False,
) -> Iterator[Stand]:
    """A box and a gateway that has seen two minutes of one client, as after a restart.

    Args:
        key: Of the client that it sees, if the gateway asks for one.
        told: Requests say how long their answers will be.

    Raises:
        DidNotStart: One of them did not get ready.
    """
    with (
        tempfile.TemporaryDirectory(prefix="targets-") as name,
        served.boxed(Path(name), scale=scope.scale, models=models, more=more, told=told) as at,
    ):
        stand = Stand(at=at, scope=scope)
        # The first model last: it is the one in memory when the loads begin.
        for model in reversed(models):
            client = stand.client(models=(model,), prompts=Unique(seed=0), key=key)
            stand.put(ClosedLoop(1, WARM_UP_S), client)
        yield stand
