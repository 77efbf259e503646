"""The predecessor's eight experiments, on this gateway, beside what the predecessor told.

    python -m bench.experiments --through box [--direct] [--quick] [--only NAME] [--out DIR]
    python -m bench.experiments --through embedded
    python -m bench.experiments --through ollama [--model A,B]
    python -m bench.experiments --url http://127.0.0.1:8000 --model llama3.2

With `--through` the gateway is started here, before the simulated box (`bench.box`, which
goes `--scale` times as fast), with the model that it runs itself, or before a real Ollama
that is started too ($OLLAMA_BIN or `ollama` on PATH, with the models that it finds);
`--direct` puts each load on the engine as well, past the gateway. All durations are told
in seconds of the box, so that they can be compared. Written are `experiments.json`,
`experiments.md` and a plot of each experiment.
"""

import argparse
import contextlib
import itertools
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.asking import Client
from bench.load import ClosedLoop, run
from bench.processes import DidNotStart, end_on_sigterm
from bench.prompts import Unique
from bench.replies import Ollama, OpenAI
from bench.trials import plots, predecessor, served, tables
from bench.trials.cases import (
    DEADLINE_S,
    PATIENCE_S,
    Case,
    Experiment,
    client_of,
    experiments,
    scaled,
)
from bench.trials.measures import measured
from bench.trials.served import Served
from bench.trials.tables import DIRECT, GATEWAY, PREDECESSOR, Finding, Row

SCALE: Final = 10.0
WARM_UP_S: Final = 30.0
BOX_MODELS: Final = ("box:latest", "other:latest")

Told = Callable[[float], None]
"""Told how much of a load is over, from 0 to 1."""


def run_case(
    case: Case, at: Served, source: str, *, seed: int, told: Told = lambda _: None
) -> dict[str, float]:
    """Put a load on the gateway or, past it, on the engine."""
    client = client_of(case, base=base_client(at, source), scale=at.scale, seed=seed)
    url = at.url if source == GATEWAY else at.engine_url
    assert url is not None, "only what can be asked directly is"
    if at.box_url is not None:
        served.reset_box(at.box_url)
    results = uvloop.run(
        run(
            url,
            scaled(case.plan, at.scale),
            client,
            progress=lambda share, _: told(share),
        )
    )
    found = measured(results, deadline_s=client.deadline_s, scale=at.scale)
    if at.box_url is not None:
        found["loads"] = float(served.box_state(at.box_url)["loads"])
    return found


def base_client(at: Served, source: str) -> Client:
    """What the clients of all cases have in common.

    Past the gateway nobody keeps a deadline unless the client does: it leaves when its
    time is over. Through the gateway it is as patient as openai-python.
    """
    direct = source == DIRECT
    return Client(
        dialect=Ollama() if direct else OpenAI(),
        models=at.models,
        max_tokens=at.max_tokens,
        timeout_s=(DEADLINE_S if direct else PATIENCE_S) / at.scale,
    )


def warm_up(at: Served) -> None:
    """Let the gateway see how long things take here, as it remembers over a restart."""
    prompts = Unique(seed=0)
    for model in reversed(at.models[:2]):
        client = attrs.evolve(base_client(at, GATEWAY), models=(model,), prompts=prompts)
        uvloop.run(run(at.url, ClosedLoop(1, WARM_UP_S / at.scale), client))


def run_all(
    chosen: Sequence[Experiment], at: Served, sources: Sequence[str], *, console: Console
) -> list[Finding]:
    """Run experiments one after the other, with a bar that tells how far it is."""
    findings = []
    loads = sum(len(experiment.cases) for experiment in chosen) * len(sources)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        whole = bar.add_task("warming up", total=loads)
        warm_up(at)
        seeds = itertools.count(1)
        for experiment in chosen:
            rows = []
            for case, seed in zip(experiment.cases, seeds, strict=False):
                found: dict[str, dict[str, float]] = {}
                for source in sources:
                    begun = float(bar.tasks[whole].completed)
                    bar.update(whole, description=f"{experiment.name}: {case.label}, {source}")

                    def told(share: float, begun: float = begun) -> None:
                        bar.update(whole, completed=begun + share)

                    found[source] = run_case(case, at, source, seed=seed, told=told)
                    told(1.0)
                found[PREDECESSOR] = dict(predecessor.figures_of(experiment.name, case.label))
                rows.append(Row(label=case.label, at=case.at, series=case.series, found=found))
            findings.append(Finding(experiment=experiment, rows=tuple(rows)))
    return findings


def notes(what: str, at: Served, *, quick: bool) -> list[str]:
    """What a reader of the figures must know."""
    found = [
        f"{GATEWAY}: {what}",
        f"{PREDECESSOR}: {predecessor.MEASURED_ON}",
        f"measured {datetime.now(UTC):%Y-%m-%d} on {platform.machine()}, {os.cpu_count()} cores",
        f"a request has {DEADLINE_S:g} s; what comes later counts as timed out",
    ]
    if at.scale != 1.0:
        found.append(
            f"durations are seconds of the box, which goes {at.scale:g} times as fast;"
            " only refusals are told in real seconds"
        )
    if quick:
        found.append("quick: short loads and few levels, not for quoting")
    return found


def write(findings: Sequence[Finding], directory: Path, *, told: Sequence[str], at: Served) -> str:
    """Write JSON, Markdown and plots; returns the Markdown."""
    directory.mkdir(parents=True, exist_ok=True)
    text = tables.document(findings, heading="Experiments", notes=told)
    (directory / "experiments.md").write_text(text)
    (directory / "experiments.json").write_bytes(as_json(findings, told=told, at=at))
    for finding in findings:
        plots.write(finding, directory / f"{finding.experiment.name}.svg")
    return text


def as_json(findings: Sequence[Finding], *, told: Sequence[str], at: Served) -> bytes:
    document: dict[str, Any] = {
        "notes": list(told),
        "scale": at.scale,
        "models": at.models,
        "experiments": [
            {
                "name": finding.experiment.name,
                "title": finding.experiment.title,
                "cases": [
                    {
                        "label": case.label,
                        "plan": {"kind": type(case.plan).__name__, **attrs.asdict(case.plan)},
                        "stream": case.stream,
                        "retries": case.retries,
                        "models": case.models,
                        "found": row.found,
                    }
                    for case, row in zip(finding.experiment.cases, finding.rows, strict=True)
                ],
            }
            for finding in findings
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


@contextlib.contextmanager
def serving(options: argparse.Namespace) -> Iterator[tuple[str, Served]]:
    """What the command line names, in words and as it is asked.

    Raises:
        DidNotStart, FileNotFoundError: It is not there.
    """
    models = tuple(options.model.split(",")) if options.model else ()
    if options.url:
        assert models, "parsed so"
        scale = options.scale or 1.0
        limits = None if options.scale else served.REAL_ANSWERS
        at = Served(url=options.url, models=models, scale=scale, max_tokens=limits)
        yield f"{options.url}, serving {options.model}", at
        return
    with tempfile.TemporaryDirectory(prefix="experiments-") as name:
        directory = Path(name)
        match options.through:
            case "box":
                scale = options.scale or SCALE
                with served.boxed(directory, scale=scale, models=models or BOX_MODELS) as at:
                    yield "before the simulated box: 1 slot, 7.5 tokens/s, prompts at 60/s", at
            case "embedded":
                with served.embedded(directory) as at:
                    yield f"with its embedded model, {at.models[0]}", at
            case _:
                with served.ollama(directory, models=models) as at:
                    yield f"before a real Ollama, {', '.join(at.models[:2])}, 1 slot", at


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="bench.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--through", choices=("box", "embedded", "ollama"))
    what.add_argument("--url", help="root of what runs already, such as http://127.0.0.1:8000")
    names = [experiment.name for experiment in experiments()]
    add("--only", choices=names, action="append", help="an experiment; all by default")
    add("--direct", action="store_true", help="the same past the gateway, for comparison")
    add("--quick", action="store_true", help="short loads and few levels")
    add("--model", default="", help="names with a comma between; needed with --url")
    add("--scale", type=float, help="how many times as fast the box goes; of --url, if it is one")
    add("--out", type=Path, default=Path("experiments"), metavar="DIR", help="where files go")
    return found


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if options.url and not options.model:
        parser().error("--url needs --model")
    if options.direct and options.through not in ("box", "ollama"):
        parser().error("--direct needs an engine that can be asked: --through box or ollama")
    console = Console(stderr=True)
    try:
        with serving(options) as (what, at):
            chosen = [
                experiment
                for experiment in experiments(quick=options.quick)
                if experiment.name in (options.only or [experiment.name])
            ]
            left_out = [one for one in chosen if one.models > len(at.models)]
            chosen = [one for one in chosen if one not in left_out]
            sources = [GATEWAY, DIRECT] if options.direct else [GATEWAY]
            findings = run_all(chosen, at, sources, console=console)
            told = notes(what, at, quick=options.quick)
            told += [f"left out, since it needs two models: {one.name}" for one in left_out]
            print(write(findings, options.out, told=told, at=at))
            print(f"written to {options.out}/")
    except (DidNotStart, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main(sys.argv[1:]))
