"""A Prometheus of our own that scrapes a gateway, and what it is asked."""

import json
import math
import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from bench.processes import ROOT, Child, free_port
from bench.wire import HOST

RULES: Final = tuple(
    ROOT / "conf" / "prometheus" / name for name in ("recording.yml", "alerts.yml")
)

FETCHED: Final = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gateway-validators"
)
"""Where `.ci/fetch-validators` puts programs that are not installed."""

HOW_TO_GET: Final = (
    f".ci/fetch-validators {FETCHED} (on Debian and Ubuntu), or apt install prometheus"
)

_ASK_S_MAX: Final = 20.0


class NotFound(RuntimeError):
    """There is no such program; the message says how to get it."""


class BadQuery(RuntimeError):
    """Prometheus does not understand a query; the message has its words."""


def program(name: str) -> Path:
    """`prometheus` or `promtool`: on PATH, or where it was fetched to.

    Raises:
        NotFound: It is at neither place.
    """
    found = shutil.which(name) or shutil.which(name, path=str(FETCHED / "usr" / "bin"))
    if found is None:
        raise NotFound(f"no {name} here. Get it: {HOW_TO_GET}")
    return Path(found)


@attrs.frozen
class Series:
    """One line of an answer.

    Attributes:
        values: Moment and value; never NaN, which only says that there was nothing.
    """

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]


@attrs.frozen
class Prometheus:
    """A running one."""

    url: str

    def over(self, expr: str, *, start: float, end: float, step_s: float) -> list[Series]:
        """What a panel shows between two moments; series without any value are left out.

        Raises:
            BadQuery: It is no PromQL, or asks for too much.
        """
        answer = self._ask("/api/v1/query_range", query=expr, start=start, end=end, step=step_s)[
            "result"
        ]
        found = (Series(one["metric"], _numbers(one["values"])) for one in answer)
        return [series for series in found if series.values]

    def now(self, expr: str) -> list[Series]:
        """Its value at this moment. Raises as `over`."""
        answer = self._ask("/api/v1/query", query=expr)["result"]
        found = (Series(one["metric"], _numbers([one["value"]])) for one in answer)
        return [series for series in found if series.values]

    def rules(self) -> list[dict[str, Any]]:
        """All that it has read, as it tells them."""
        groups = self._ask("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _ask(self, path: str, **asked: object) -> Any:
        # As a form, since queries may be longer than a URL should be.
        data = urllib.parse.urlencode(asked).encode() if asked else None
        try:
            with urllib.request.urlopen(self.url + path, data, timeout=_ASK_S_MAX) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                told = json.load(error)
            raise BadQuery(f"{told['error']}, in {asked.get('query')}") from error


def _numbers(values: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    numbers = ((moment, float(value)) for moment, value in values)
    return [(moment, number) for moment, number in numbers if not math.isnan(number)]


@contextmanager
def scraping(
    target: str, directory: Path, *, every_s: float, rules: Sequence[Path] = RULES
) -> Iterator[Prometheus]:
    """One that scrapes a gateway while the block lasts.

    Args:
        target: Host and port of the gateway.
        directory: An empty one, for what it keeps.
        every_s: Between two scrapes, and between two looks at the rules.

    Raises:
        NotFound: There is no such program here.
        DidNotStart: It did not get ready.
    """
    config = directory / "prometheus.yml"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "global": {
                    "scrape_interval": f"{every_s:g}s",
                    "scrape_timeout": f"{every_s:g}s",
                    "evaluation_interval": f"{every_s:g}s",
                },
                "rule_files": [str(path) for path in rules],
                "scrape_configs": [
                    {"job_name": "gateway", "static_configs": [{"targets": [target]}]}
                ],
            }
        )
    )
    port = free_port()
    child = Child(
        [
            str(program("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ],
        port=port,
        ready_path="/-/ready",
        log_path=directory / "prometheus.log",
        cores=frozenset(os.sched_getaffinity(0)),
    )
    with child:
        child.wait_ready()
        yield Prometheus(f"http://{HOST}:{port}")
