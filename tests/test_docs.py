"""What the manual says is so: no name in it is made up, none is missing, what can be run runs."""

import ast
import inspect
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, cast, get_args
from unittest.mock import MagicMock

import attrs
import pytest

from gateway.admission.limits import Limits
from gateway.backends import llamacpp, ollama_wire, openai_wire
from gateway.backends.http import HttpClient
from gateway.config.environment import SHORT_NAMES
from gateway.config.keys import dotted
from gateway.config.load import load
from gateway.config.schema import (
    BackendKind,
    CallerSettings,
    Config,
    ModelOptions,
    ModelSettings,
    Scheduling,
    Tracing,
)
from gateway.core import exit_codes, jsonio
from gateway.core.errors import GatewayError, Promise, QueueFull
from gateway.core.messages import Timings, Usage
from gateway.core.ticket import Caller, CallerLimits, RequestRecord
from gateway.daemon.statistics import Statistics, UpstreamStatistics, readiness
from gateway.dialects.openai_chat import PARAMETERS, OpenAIChat
from gateway.dialects.sampling import SAMPLING
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.families.state import Gauges, UpstreamGauges
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.lines import JsonLines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage_store import MemoryStore
from gateway.web import app
from gateway.web.allowances import Allowances
from gateway.web.intake import IGNORED_PARAMS, MAX_TOKENS, REJOINED, TRUNCATED
from gateway.web.refusals import say_when
from gateway.web.tokenizing import ESTIMATED
from gateway.web.traced import TRACE_RESPONSE
from gateway.web.unserved import UNSERVED
from gateway.web.visit import Visit
from tests.config.manual import docstrings
from tests.fakes import ManualClock
from tests.test_layers import ORDER

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
README: Final = (ROOT / "README.md").read_text("utf-8")
ARCHITECTURE: Final = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")
CADDYFILE: Final = (ROOT / "conf" / "Caddyfile").read_text("utf-8")
UNITS: Final = "".join(
    (ROOT / "systemd" / name).read_text("utf-8") for name in ("gateway.service", "gateway.socket")
)

ADDRESS: Final = "127.0.0.1:8000"
"""Where the manual's gateway is."""

START_S_MAX: Final = 30.0
SNIPPET_S_MAX: Final = 30.0

LAYERS: Final = re.compile(r"core < config < [a-z< ]+")
"""The order of imports, wherever it is written down."""


# --- Reading a page -----------------------------------------------------------


@attrs.frozen
class Snippet:
    """A fenced block; `tested` when a hidden comment before it says that it can be run."""

    language: str
    text: str
    tested: bool
    line: int

    def __str__(self) -> str:
        return f"{self.language}-at-line-{self.line}"


def snippets(*languages: str, tested: bool | None = None) -> list[Snippet]:
    """The manual's blocks in these languages."""
    fences = re.finditer(
        r"(<!-- test -->\n)?^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
    )
    found = (
        Snippet(
            language=fence[2],
            text=fence[3],
            tested=bool(fence[1]),
            line=README.count("\n", 0, fence.start(3)) + 1,
        )
        for fence in fences
    )
    return [
        snippet
        for snippet in found
        if snippet.language in languages and tested in (None, snippet.tested)
    ]


def table(page: str, *header: str) -> list[list[str]]:
    """The cells of every row below this header."""
    lines = iter(page.split("\n"))
    wanted = list(header)
    for line in lines:
        if _cells(line) == wanted:
            break
    next(lines)  # the rule
    rows = [_cells(line) for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    assert rows, f"no table with the header {header}"
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def section(page: str, title: str) -> str:
    """The text below a heading, up to the next of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}$", page, re.MULTILINE)
    assert match is not None, title
    rest = page[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


# --- Settings -------------------------------------------------------------------


def default_words(key: Sequence[str]) -> str:
    """A key's default as the manual writes it."""
    value: Any = Config()
    for part in key:
        value = getattr(value, part)
    return value_words(value)


def value_words(value: Any) -> str:
    match value:
        case None | "" | () | {} | ModelOptions():
            return "none"
        case _ if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
            return "none"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:.15g}"
        case tuple():
            return ", ".join(value)
        case _:
            return str(value)


def test_every_environment_variable_has_its_key_and_its_default() -> None:
    rows = table(README, "variable", "key", "default", "meaning")
    told = {code(variable)[0]: (code(key)[0], default) for variable, key, default, _ in rows}
    assert told == {
        variable: (dotted(key), default_words(key)) for variable, key in SHORT_NAMES.items()
    }


def test_every_setting_in_the_manual_is_real_and_its_default_too() -> None:
    for cell, default, _ in table(README, "key", "default", "when to change it"):
        key = code(cell)[0].split(".")
        assert default == default_words(key), key


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("scheduling", Scheduling),
        ("callers.NAME", CallerSettings),
        ("models.NAME", ModelSettings),
        ("tracing", Tracing),
    ],
)
def test_every_key_of_these_tables_is_told_in_the_words_of_the_schema(name: str, cls: Any) -> None:
    lines = docstrings(cls)
    rows = table(README, f"key of `[{name}]`", "default", "meaning")
    assert [(code(key)[0], default, meaning) for key, default, meaning in rows] == [
        (field.name, value_words(field.default), lines[field.name]) for field in attrs.fields(cls)
    ]


def test_every_option_of_a_model_is_told() -> None:
    told = set(code(section(README, "Models").rpartition("```")[2]))
    assert told >= {field.name for field in attrs.fields(ModelOptions)}


@pytest.mark.parametrize("snippet", snippets("toml"), ids=str)
def test_a_configuration_in_the_manual_is_right(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(snippet.text)
    config = load(path, {})
    assert tomllib.loads(snippet.text).keys() <= attrs.asdict(config).keys()


def test_every_kind_of_engine_is_told() -> None:
    assert {code(row[0])[0] for row in table(README, "kind", "engine")} == set(
        get_args(BackendKind)
    )


# --- What the API is ---------------------------------------------------------------


def errors() -> Iterator[type[GatewayError]]:
    """The whole tree."""
    waiting: list[type[GatewayError]] = [GatewayError]
    while waiting:
        error = waiting.pop()
        yield error
        waiting += error.__subclasses__()


def test_every_error_code_is_told_and_no_other() -> None:
    rows = table(README, "status", "code", "when", "Retry-After")
    told = [(int(status), code(cell)[0]) for status, cell, _, _ in rows]
    assert len(told) == len(set(told))
    # Other tests may have made errors of their own.
    real = {
        (error.status, error.code)
        for error in errors()
        if error.__module__ == GatewayError.__module__
    }
    assert set(told) == real


def test_every_429_and_503_says_when_to_come_back() -> None:
    for status, _, _, retry_after in table(README, "status", "code", "when", "Retry-After"):
        assert (status in ("429", "503")) == retry_after.startswith("yes")


def test_every_route_is_told_and_no_other() -> None:
    rooms = {name: MagicMock() for name in inspect.signature(app.routes).parameters}
    real = {
        (route.method, re.sub(r"\{(\w+)[^}]*\}", r"{\1}", route.template))
        for route in app.routes(**rooms)
    }
    told = {
        (code(method)[0], code(path)[0].partition("?")[0])
        for method, path, _ in table(README, "method", "path", "answer")
    }
    assert told == real


def test_what_is_not_served_is_told_in_the_same_words() -> None:
    rows = table(README, "not served", "why")
    assert [(code(path)[0], why) for path, why in rows] == list(UNSERVED.items())


def test_every_header_of_ours_is_told() -> None:
    refused = Visit(None, 0.0).headers(0.0)
    say_when(QueueFull("Full.", retry_after_s=1.0, promise=Promise(place="p")), refused)
    ours = {*refused, IGNORED_PARAMS, MAX_TOKENS, TRUNCATED, REJOINED, ESTIMATED, TRACE_RESPONSE}
    told = {code(row[0])[0] for row in table(README, "header", "meaning")}
    assert told == ours - {"Server", "X-Content-Type-Options"}


def test_every_header_of_a_callers_limits_is_told() -> None:
    day = Ledger(store=MemoryStore(1), clock=ManualClock(), failed=lambda: None, run="r")
    limited = Caller(name="c", limits=CallerLimits(requests_per_minute=1, tokens_per_minute=1))
    tell = Allowances(Limits(day), ManualClock()).teller(limited, "/v1/messages")
    assert tell is not None
    rows = table(README, "to every client", "to Anthropic's, beside it", "meaning")
    told = [code(row[0])[0] for row in rows] + [code(row[1])[0] for row in rows]
    assert sorted(told) == sorted(name for name, _ in tell(0.0))


ASKED: Final[Mapping[str, jsonio.Json]] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "logprobs": True,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "logit_bias": {"1": 1},
    "reasoning_effort": "low",
    "keep_alive": "1m",
    "n": 2,
    **{name: 1 for name in SAMPLING if name != "stop"},
    "stop": "x",
}
"""Every parameter that an engine may or may not honour, asking for something."""


def test_every_parameter_is_told() -> None:
    told = set(code(section(README, "Parameters")))
    assert told >= {*PARAMETERS, *SAMPLING}


def test_what_each_engine_honours_is_told() -> None:
    config = Config()
    dialect = OpenAIChat(config.limits, config.generation)
    asked = dialect.parse(jsonio.dumps(ASKED)).request
    llama_cpp = openai_wire.unsupported(asked, openai_wire.LLAMA_CPP_EXTENSIONS)
    dishonoured = {
        "Ollama": ollama_wire.unsupported(asked),
        "llama.cpp server": llama_cpp,
        "vLLM": openai_wire.unsupported(asked, frozenset()),
    }
    if llamacpp.available(config.embedded) is None:
        clock = ManualClock()
        http = HttpClient(timeouts=config.timeouts, limits=config.limits, clock=clock)
        dishonoured["embedded"] = llamacpp.LlamaCppBackend(
            embedded=config.embedded, http=http, limits=config.limits, clock=clock
        ).unsupported(asked)
    engines = ("Ollama", "embedded", "llama.cpp server", "vLLM")
    rows = table(README, "parameter", *engines)
    for engine, names in dishonoured.items():
        column = 1 + engines.index(engine)
        assert {code(row[0])[0] for row in rows if row[column] == "no"} == set(names), engine
        assert {row[column] for row in rows} <= {"yes", "no"}


# --- What operators see ----------------------------------------------------------------


def test_every_metric_is_told_with_its_type_and_labels_and_no_other() -> None:
    upstream = UpstreamGauges(name="u", slots=1, busy=0, up=True)
    metrics = Metrics("1")
    metrics.set_models(["m"])
    page = metrics.render(Gauges(upstreams=[upstream])).decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in types}
    for sample, names in re.findall(r"^([a-z_]+)\{(.*)\} ", page, re.MULTILINE):
        metric = sample if sample in types else re.sub(r"_(bucket|sum|count)$", "", sample)
        labels[metric] |= set(re.findall(r'(\w+)="', names)) - {"le"}
    told = {
        code(name)[0]: (type_, set(code(label_names)))
        for name, type_, label_names, _ in table(README, "name", "type", "labels", "meaning")
    }
    assert told == {name: (type_, labels[name]) for name, type_ in types.items()}


def test_the_log_line_has_the_fields_of_a_real_one() -> None:
    (example,) = (
        json.loads(snippet.text) for snippet in snippets("json") if '"event"' in snippet.text
    )
    record = RequestRecord(
        request_id="r",
        caller="alice",
        model="m",
        stream=True,
        outcome="completed",
        status=200,
        upstream="default",
        first_token_s=1.0,
        total_s=2.0,
        usage=Usage(prompt=3, completion=4),
        timings=Timings(decode_s=1.0),
    )
    real = Exchange(
        request_id="r", route="/", method="POST", status=200, caller="alice", record=record
    )
    assert list(example) == list(json.loads(JsonLines().request(0.0, real)))


def test_every_exit_status_is_told() -> None:
    statuses = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    told = {int(row[0]) for row in table(README, "exit status", "meaning")}
    # A shell makes the one of an interrupted command.
    assert told == statuses - {exit_codes.INTERRUPTED}


def test_every_reason_not_to_be_ready_is_told() -> None:
    reasons = {
        readiness(
            Statistics(
                draining=draining,
                warm=warm,
                waiting=waiting,
                queue_bound=1,
                active=0,
                upstreams=(
                    UpstreamStatistics(
                        name="u",
                        up=up,
                        slots=1,
                        busy=1,
                        holds_default_model=True,
                    ),
                ),
                log_lines_dropped=0,
            )
        ).reason
        for draining, warm, up, waiting in itertools.product(
            (True, False), (True, False), (True, False), (0, 1)
        )
    }
    told = {code(row[0])[0] for row in table(section(README, "Health"), "reason", "meaning")}
    assert told == reasons - {""}


# --- Commands -----------------------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE))


def test_every_make_target_is_told_and_no_other() -> None:
    rows = table(README, "target", "what it does")
    assert {code(row[0])[0].removeprefix("make ") for row in rows} == targets()
    commands = [*code(README), *(snippet.text for snippet in snippets("sh")), _indented(README)]
    named = {
        target
        for text in commands
        for target in re.findall(r"^ *make ([a-z-]+)", text, re.MULTILINE)
    }
    assert named <= targets()


def _indented(page: str) -> str:
    return "\n".join(line for line in page.split("\n") if line.startswith("    "))


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_a_command_is_one_that_a_shell_can_read(snippet: Snippet) -> None:
    done = subprocess.run(
        [_tool("bash"), "-n", "-c", snippet.text], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for variable in re.findall(r"(?<![\w-])([A-Z][A-Z0-9_]+)=", snippet.text):
        known = variable in SHORT_NAMES or variable.startswith("GATEWAY__")
        assert known or variable in CADDYFILE + MAKEFILE, variable


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_a_program_is_one_that_python_can_read(snippet: Snippet) -> None:
    compile(snippet.text, f"README.md, line {snippet.line}", "exec", dont_inherit=True)


@pytest.mark.parametrize("snippet", snippets("ini"), ids=str)
def test_a_drop_in_is_what_the_unit_offers(snippet: Snippet) -> None:
    offered = {line.lstrip("# ") for line in UNITS.split("\n")}
    assert set(snippet.text.splitlines()) <= offered


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """Of a gateway that was started as its user would, with an engine that echoes."""
    environment = {
        **_without_settings(os.environ),
        "GATEWAY_CONFIG": str(ROOT / "conf" / "gateway.toml"),
        "GATEWAY__BACKEND__KIND": "echo",
        "MODEL_NAME": "echo",
        "PORT": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            yield _port(cast(Iterable[str], daemon.stderr))
        finally:
            daemon.terminate()
            _, rest = daemon.communicate(timeout=START_S_MAX)
        assert daemon.returncode == 0, rest


def _port(log: Iterable[str]) -> str:
    """The port it says, once it says that it is ready."""
    found = ""
    for line in log:
        told = json.loads(line)
        if told["event"] == "listening":
            found = told["message"].rpartition(":")[2]
        elif told["event"] == "ready":
            return found
    raise AssertionError("the gateway ended before it was ready")


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in SHORT_NAMES and not name.startswith(("GATEWAY_", "OPENAI_"))
    }


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here")
    return path


# What the manual leaves out: a status that is an error must fail the test.
_CURL: Final = """
curl() { command curl --fail-with-body --silent --show-error --noproxy '*' "$@"; }
"""


@pytest.mark.slow
@pytest.mark.parametrize("snippet", snippets("sh", "python", tested=True), ids=str)
def test_what_the_manual_shows_runs(snippet: Snippet, port: str, tmp_path: Path) -> None:
    gateway = f"{shlex.quote(sys.executable)} -m gateway"
    text = snippet.text.replace(ADDRESS, f"127.0.0.1:{port}")
    text = text.replace(".venv/bin/gateway", gateway)
    if snippet.language == "python":
        command = [sys.executable, "-c", text]
    else:
        _tool("curl")
        command = [_tool("bash"), "-euo", "pipefail", "-c", _CURL + text]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**_without_settings(os.environ), "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SNIPPET_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


# --- Links, paths, names -------------------------------------------------------------


def _anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_no_link_is_broken(name: str) -> None:
    page = (ROOT / name).read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        if anchor:
            linked = (ROOT / path).read_text("utf-8") if path else page
            assert anchor in _anchors(linked), target


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_named_is_there(name: str) -> None:
    page = (ROOT / name).read_text("utf-8")
    rooms = r"(?<![\w/.-])(?:gateway|tests|bench|conf|systemd|\.ci)/[\w./-]*\w"
    missing = [path for path in re.findall(rooms, page) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [README, ARCHITECTURE], ids=["README.md", "ARCHITECTURE.md"])
def test_the_order_of_imports_is_the_one_that_is_checked(page: str) -> None:
    (line,) = LAYERS.findall(page)
    assert line.split(" < ") == [name for name in ORDER if name != "__main__"]


def test_the_layout_lists_every_file_and_no_other() -> None:
    layout = section(ARCHITECTURE, "Layout")
    told = {
        f"{room}{file}"
        for room in re.findall(r"^### (gateway/\S*)$", layout, re.MULTILINE)
        for file in re.findall(r"^- `(\S+)` – ", section(layout, room), re.MULTILINE)
    }
    real = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gateway").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert told == real


@cache
def _test_names() -> frozenset[str]:
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_invariant_has_a_keeper_and_a_test_that_are_there() -> None:
    rows = table(ARCHITECTURE, "", "what stays true", "kept by", "proven by")
    assert "".join(row[0] for row in rows) == "abcdefghijklmn"
    source = "".join(path.read_text("utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    for letter, _, kept_by, proven_by in rows:
        assert code(proven_by), letter
        for name in code(proven_by):
            assert (ROOT / name).exists() or name in _test_names(), name
        for name in code(kept_by):
            assert (ROOT / name).exists() or name.rpartition(".")[2] in source, name
