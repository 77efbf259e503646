"""The predecessor's experiments: what is asked, what is told of it, and one small run of it all."""

import math
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import attrs
import orjson
import pytest

from bench import experiments
from bench.answers import tokens_in
from bench.asking import Client
from bench.load import Burst, ClosedLoop, OpenLoop
from bench.prompts import Unique
from bench.replies import Ollama, OpenAI
from bench.results import Attempt, Result
from bench.retries import Retries
from bench.trials import plots, predecessor, served, tables
from bench.trials.cases import Case, Dialogue, Experiment, client_of, scaled
from bench.trials.cases import experiments as all_experiments
from bench.trials.measures import MEASURES, measured
from bench.trials.served import Served, Tables
from bench.trials.tables import DIRECT, GATEWAY, PREDECESSOR, Finding, Row
from gateway.config.load import load

SVG = "{http://www.w3.org/2000/svg}"


def finding(*rows: Row, measures: tuple[str, ...] = ("answered", "latency_mean_s")) -> Finding:
    cases = tuple(Case(label=row.label, plan=Burst(1), at=row.at) for row in rows)
    found = Experiment(
        name="some", title="Some <of> them", cases=cases, measures=measures, plotted=measures
    )
    return Finding(experiment=found, rows=rows)


BARS = finding(
    Row(label="one", found={GATEWAY: {"answered": 3, "latency_mean_s": 1.0}}),
    Row(label="two", found={GATEWAY: {"answered": 4}, PREDECESSOR: {"answered": 0}}),
)
LINES = finding(
    Row(label="1", at=1, found={GATEWAY: {"answered": 1}, DIRECT: {"answered": 1}}),
    Row(label="9", at=9, found={GATEWAY: {"answered": 9}, DIRECT: {}}),
    Row(label="9, again", at=9, series="again", found={GATEWAY: {"answered": 9}}),
)


# --- What is asked ---------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
def test_there_are_eight_and_each_measures_what_is_known(quick: bool) -> None:
    found = all_experiments(quick=quick)
    assert len({experiment.name for experiment in found}) == 8
    for experiment in found:
        assert len({case.label for case in experiment.cases}) == len(experiment.cases)
        assert set(experiment.plotted) <= set(experiment.measures) <= set(MEASURES)


def test_each_figure_of_the_predecessor_stands_beside_one_of_ours() -> None:
    by_name = {experiment.name: experiment for experiment in all_experiments()}
    for name, cases in predecessor.FIGURES.items():
        assert set(cases) <= {case.label for case in by_name[name].cases}
        for figures in cases.values():
            assert set(figures) <= set(by_name[name].measures)


def test_what_became_of_a_level_of_the_predecessor_adds_up() -> None:
    for level, figures in predecessor.FIGURES["concurrency"].items():
        became = ("answered", "refused", "timed_out")
        assert sum(figures[one] for one in became) == int(level)


def test_a_faster_world_has_shorter_loads_and_the_same_requests() -> None:
    assert scaled(ClosedLoop(5, 120.0), 10.0) == ClosedLoop(5, 12.0)
    assert scaled(OpenLoop(0.2, 60.0, seed=3), 10.0) == OpenLoop(2.0, 6.0, seed=3)
    assert scaled(Burst(100), 10.0) == Burst(100)


def test_a_client_has_what_its_case_says() -> None:
    base = Client(models=("a", "b"), timeout_s=7.0)
    case = Case(label="x", plan=Burst(1), stream=True, retries=True)
    client = client_of(case, base=base, scale=10.0, seed=4)
    assert client.prompts == Unique(seed=4)
    assert (client.models, client.stream, client.deadline_s) == (("a",), True, 6.0)
    assert client.timeout_s == 7.0
    assert client.retries == Retries().scaled(10.0)
    two = attrs.evolve(case, models=2, retries=False)
    both = client_of(two, base=base, scale=10.0, seed=5)
    assert (both.models, both.retries.count_max) == (("a", "b"), 0)


def test_past_the_gateway_the_client_keeps_the_deadline() -> None:
    at = Served(url="http://x", models=("m",), scale=10.0)
    assert isinstance(experiments.base_client(at, DIRECT).dialect, Ollama)
    assert experiments.base_client(at, DIRECT).timeout_s == 6.0
    assert isinstance(experiments.base_client(at, GATEWAY).dialect, OpenAI)
    assert experiments.base_client(at, GATEWAY).timeout_s == 60.0


def test_a_dialogue_takes_turns_and_ends_with_a_question() -> None:
    messages = Dialogue(turns=3).messages(0)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 + ["user"]
    assert len({message["content"] for message in messages}) == 5
    assert messages == Dialogue(turns=3).messages(0)
    assert messages[0] != Dialogue(turns=3).messages(1)[0]
    ten = Dialogue(turns=10).messages(0)
    assert sum(tokens_in(message["content"]) for message in ten) == pytest.approx(19 * 15, abs=19)


# --- What is told of it ----------------------------------------------------------------


def attempt(sent_at: float, ended_at: float, status: int = 200, **more: object) -> Attempt:
    return Attempt(sent_at=sent_at, ended_at=ended_at, status=status, **more)  # type: ignore[arg-type]


def result(*attempts: Attempt, stream: bool = False) -> Result:
    return Result(number=0, model="m", stream=stream, max_tokens=None, attempts=attempts)


def test_durations_are_those_of_the_box_and_refusals_are_real() -> None:
    refused = attempt(0.0, 0.02, status=503, code="queue_full")
    results = [
        result(attempt(0.0, 0.3, tokens=20, first_token_at=0.1), stream=True),
        result(refused, attempt(1.0, 1.5, tokens=10, first_token_at=1.4), stream=True),
        result(refused),
        result(attempt(0.0, 9.0, status=504, code="request_timeout")),
        result(attempt(0.0, 10.0, tokens=10)),
    ]
    found = measured(results, deadline_s=6.0, scale=10.0)
    assert (found["answered"], found["refused"], found["timed_out"]) == (2, 1, 2)
    # The one that was refused at first has waited all the while.
    assert found["latency_mean_s"] == pytest.approx((3.0 + 15.0 + 100.0) / 3)
    assert found["first_token_min_s"] == pytest.approx(1.0)
    assert found["first_token_max_s"] == pytest.approx(14.0)
    assert found["refusal_mean_s"] == pytest.approx(0.02)
    assert found["tokens_per_s"] == pytest.approx(40 / 100.0)
    assert set(found) <= set(MEASURES)


def test_what_was_not_measured_is_not_told() -> None:
    found = measured([], deadline_s=6.0, scale=10.0)
    assert found["answered"] == 0
    assert "latency_mean_s" not in found
    assert "refusal_mean_s" not in found


def test_a_table_has_a_column_for_each_source_that_knows() -> None:
    assert tables.table(BARS).splitlines() == [
        "|  | answered in time: gateway | answered in time: predecessor"
        " | mean latency, s: gateway |",
        "| --- | ---: | ---: | ---: |",
        "| one | 3 | - | 1.00 |",
        "| two | 4 | 0 | - |",
    ]


def test_the_document_has_the_notes_the_tables_and_the_plots() -> None:
    text = tables.document([BARS, LINES], heading="Found", notes=["on a box"])
    assert text.startswith("# Found\n\n- on a box\n\n## Some <of> them\n\n|  | answered")
    assert text.count("![Some <of> them](some.svg)") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("found", "labels"), [(BARS, ["one", "two"]), (LINES, ["again"])])
def test_a_plot_is_svg_that_says_what_it_shows(
    found: Finding, labels: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "some.svg"
    plots.write(found, path)
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    said = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
    assert "Some <of> them" in said
    assert GATEWAY in said
    assert all(any(label in one for one in said) for label in labels)
    first = path.read_bytes()
    plots.write(found, path)
    assert path.read_bytes() == first


def test_a_value_that_is_missing_is_no_number() -> None:
    assert math.isnan(BARS.rows[0].value(DIRECT, "answered"))
    assert LINES.sources("answered") == (GATEWAY, DIRECT)
    assert LINES.sources("latency_mean_s") == ()


# --- What is served --------------------------------------------------------------------


def test_the_gateways_times_go_with_the_box(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    more: Tables = {"timeouts": {"request_timeout_seconds": 3.0}, "auth.keys": {"a": "k" * 30}}
    path.write_text(served.toml(served.settings(10.0, more)))
    config = load(path, {})
    assert config.queue.retry_after_max_seconds == 12.0
    assert config.timeouts.stream_timeout_seconds == 60.0
    assert config.scheduling.affinity_wait_max_seconds == 2.0
    # What is asked for wins.
    assert config.timeouts.request_timeout_seconds == 3.0
    assert config.auth.keys == {"a": "k" * 30}


def test_a_world_as_it_is_keeps_the_gateways_defaults() -> None:
    assert served.settings(1.0) == {}


def test_a_very_fast_world_is_told_to_wait_as_little_as_the_gateway_can_say() -> None:
    assert served.settings(1000.0)["queue"]["retry_after_max_seconds"] == 1.0


def test_the_settings_of_a_gateway_are_toml() -> None:
    written = served.toml({"server": {"host": "h", "port": 1}, "auth.keys": {"a": "b"}})
    assert tomllib.loads(written) == {
        "server": {"host": "h", "port": 1},
        "auth": {"keys": {"a": "b"}},
    }


# --- The command -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--through box --url http://x",
        "--url http://x",
        "--through embedded --direct",
        "--through box --only nothing",
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(line: str) -> None:
    with pytest.raises(SystemExit) as refused:
        experiments.main(line.split())
    assert refused.value.code == 2


@pytest.mark.slow
def test_an_experiment_is_run_on_the_box_and_past_it_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"--through box --scale 200 --quick --direct --only backpressure --out {tmp_path}"
    assert experiments.main(line.split()) == 0
    (found,) = orjson.loads((tmp_path / "experiments.json").read_bytes())["experiments"]
    once, again = found["cases"]
    for case in (once, again):
        for source in (GATEWAY, DIRECT):
            ends = case["found"][source]
            became = ("answered", "refused", "timed_out", "failed")
            assert ends["requests"] == sum(ends[one] for one in became) == 100
    assert once["found"][PREDECESSOR]["timed_out"] == 50
    # What the gateway does at such a speed is not the question here.
    assert once["found"][DIRECT]["answered"] > 0
    said = capsys.readouterr().out
    assert (tmp_path / "experiments.md").read_text() in said
    assert "answered in time: predecessor" in said
    ElementTree.parse(tmp_path / "backpressure.svg")
