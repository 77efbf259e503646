"""The metrics page: what the daemon has counted, and how it is right now.

The predecessor's eleven keep their names and labels; what is new is
`gateway_…`, and `gen_ai_…` for OpenTelemetry's names. Requests are told once
when they have ended, by `RequestRecord` (what was asked of a model) and
`Exchange` (what HTTP saw of it); what is true at the moment of a scrape comes
along with the scrape, as `Gauges`. Each subject has its families in a file of
`families/`; here is who is told of what.

No label value comes from a caller: models are those the upstreams offer,
routes those of the route table, reasons and kinds those of the tree of errors,
and everything else is "other". Series have a hard bound on top.
"""

from collections.abc import Iterable
from typing import Final

from gateway.core.ticket import RequestRecord
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.families.callers import CallerFamilies
from gateway.telemetry.families.gen_ai import GenAiFamilies
from gateway.telemetry.families.http import HttpFamilies
from gateway.telemetry.families.labels import ModelLabels
from gateway.telemetry.families.process import ProcessFamilies
from gateway.telemetry.families.registry import Families
from gateway.telemetry.families.reloads import ReloadFamilies
from gateway.telemetry.families.requests import RequestFamilies
from gateway.telemetry.families.scheduling import SchedulingFamilies
from gateway.telemetry.families.state import Gauges, StateFamilies
from gateway.telemetry.series import Budget

SERIES_MAX: Final = 1000
GEN_AI_SERIES_MAX: Final = 1000
"""For the histograms that have labels, so that they leave the others their room."""


class Metrics:
    """Owns every series of this process. Nothing here awaits or raises.

    Args:
        routes: Method and template of every route, as `Exchange` spells them.
        state_directory: Whose disk is watched; empty: none is.
    """

    def __init__(
        self,
        version: str,
        *,
        routes: Iterable[tuple[str, str]] = (),
        state_directory: str = "",
    ) -> None:
        self._budget = Budget(SERIES_MAX)
        self._gen_ai_budget = Budget(GEN_AI_SERIES_MAX)
        self._models = ModelLabels()
        families = self._families = Families(self._budget)
        self._http = HttpFamilies(families, routes=tuple(routes))
        self._requests = RequestFamilies(families, models=self._models.allowed)
        self._scheduling = SchedulingFamilies(families)
        self._gen_ai = GenAiFamilies(
            families, models=self._models.allowed, budget=self._gen_ai_budget
        )
        self._state = StateFamilies(families)
        self._reloads = ReloadFamilies(families)
        self._callers = CallerFamilies(families)
        self._process = ProcessFamilies(families, version=version, state_directory=state_directory)
        self._series_refused = families.total(
            "gateway_series_refused_total", "Times that the bound on series made one an other."
        )

    # --- Telling ----------------------------------------------------------

    def told(self, record: RequestRecord) -> None:
        """A parsed request has ended."""
        self._requests.told(record)
        self._scheduling.told(record)
        self._gen_ai.told(record)
        self._callers.told(record)

    def exchanged(self, exchange: Exchange) -> None:
        """An HTTP request was answered. Its record, if it has one, is told apart from it."""
        self._http.exchanged(exchange)
        if exchange.record is None and exchange.reason:
            self._requests.unparsed(exchange.reason, exchange.status)

    def refused(self, reason: str, status: int = 400) -> None:
        """A request was refused below the app, which never sees it and makes no Exchange."""
        self._http.refused(status)
        self._requests.refused(reason)

    def upstream_failed(self, kind: str) -> None:
        """One attempt at an upstream broke; another may still serve the request."""
        self._requests.upstream_failed(kind)

    def model_loaded(self, seconds: float) -> None:
        """An upstream has brought a model to memory."""
        self._scheduling.model_loaded(seconds)

    def reloaded(self, *, applied: bool, wall_s: float) -> None:
        """The configuration was read again, seconds after the epoch; or was refused."""
        self._reloads.reloaded(applied=applied, wall_s=wall_s)

    def storage_failed(self) -> None:
        """What should outlive the daemon could not be stored; it is tried again."""
        self._callers.storage_failed()

    def set_callers(self, names: Iterable[str]) -> None:
        """These may call, besides those before them."""
        self._callers.set_callers(names)

    def connection_closed(self, reason: str) -> None:
        """We closed a client's connection; one of CLOSE_REASONS."""
        self._http.connection_closed(reason)

    def loop_lagged(self, seconds: float) -> None:
        """A timer of the event loop was so late."""
        self._process.loop_lagged(seconds)

    def set_models(self, names: Iterable[str]) -> None:
        """These models are there now, as callers spell them; the first MODELS_MAX get labels."""
        begun, forgotten = self._models.update(names)
        for name in forgotten:
            self._requests.forget_model(name)
            self._gen_ai.forget_model(name)
        for name in begun:
            self._requests.begin_model(name)
            self._gen_ai.begin_model(name)

    # --- Showing ----------------------------------------------------------

    def render(self, gauges: Gauges) -> bytes:
        """The page, in the text format 0.0.4 (CONTENT_TYPE)."""
        self._state.set(gauges)
        self._requests.set_active(gauges.active_requests)
        self._process.set()
        self._series_refused.value = self._budget.refused + self._gen_ai_budget.refused
        return self._families.page()
