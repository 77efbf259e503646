import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

import pytest

from gateway.config.schema import Logging
from gateway.telemetry.logs import LineHandler, Logs, is_journal, setup
from tests.telemetry.records import exchange, record

Level = Literal["debug", "info", "warning", "error"]
log = logging.getLogger("gateway.test")


class Paper:
    """A file to log into, read back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("w")
        self.logs: Logs | None = None

    def start(
        self, level: Level = "info", format: Literal["auto", "json", "text"] = "auto"
    ) -> Logs:
        self.logs = setup(level, format, self.file)
        return self.logs

    @property
    def text(self) -> list[str]:
        assert self.logs is not None
        assert self.logs.flush()
        return self.path.read_text().splitlines()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text]


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    paper = Paper(tmp_path / "log")
    yield paper
    paper.file.close()
    if paper.logs is not None:
        paper.logs.close()


def test_each_request_is_told_in_one_line(paper: Paper) -> None:
    logs = paper.start()
    for number in range(300):
        logs.requests.exchanged(exchange(request_id=f"req-{number}"))
    assert [line["request_id"] for line in paper.lines] == [f"req-{n}" for n in range(300)]
    assert logs.lines_dropped == 0


@pytest.mark.parametrize(
    ("level", "statuses"),
    [("debug", [200, 404, 502]), ("info", [200, 404, 502]), ("warning", [502]), ("error", [])],
)
def test_the_level_decides_which_requests_are_told(
    paper: Paper, level: Level, statuses: list[int]
) -> None:
    logs = paper.start(level)
    for status in (200, 404, 502):
        logs.requests.exchanged(exchange(status=status))
    assert [line["status"] for line in paper.lines] == statuses


@pytest.mark.parametrize("route", ["/health", "/ready", "/metrics"])
def test_what_machines_ask_is_told_at_debug_level_alone(paper: Paper, route: str) -> None:
    logs = paper.start("info")
    logs.requests.exchanged(exchange(route=route, method="GET", record=None))
    logs.requests.exchanged(exchange(route=route, method="GET", status=401, record=None))
    assert [line["status"] for line in paper.lines] == [401]


def test_at_debug_level_everything_is_told(paper: Paper) -> None:
    logs = paper.start("debug")
    logs.requests.exchanged(exchange(route="/health", method="GET", record=None))
    assert [line["level"] for line in paper.lines] == ["debug"]


def test_modules_and_requests_share_the_log_in_order(paper: Paper) -> None:
    logs = paper.start()
    log.info("engine_started", extra={"port": 4711})
    logs.requests.exchanged(exchange())
    log.debug("not_asked_for")
    log.error("drain_forced")
    assert [line["event"] for line in paper.lines] == ["engine_started", "request", "drain_forced"]
    assert paper.lines[0]["port"] == 4711


def test_a_traceback_is_told_once(paper: Paper) -> None:
    paper.start()
    try:
        raise RuntimeError("broken promise")
    except RuntimeError:
        log.exception("internal_error")
    (line,) = paper.text
    assert line.count("broken promise") == 2  # the line of source, and the error itself
    assert "locals" not in json.loads(line)


def test_a_flood_is_told_five_times_and_then_counted(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.telemetry.logs.monotonic", lambda: now)
    paper.start()
    for _ in range(1000):
        log.warning("bad_http")
    assert len(paper.lines) == 5
    now += 1.0
    log.warning("bad_http")
    assert paper.lines[5]["suppressed"] == 995


def test_strangers_are_heard_from_warnings_on_and_in_short(paper: Paper) -> None:
    paper.start("debug")
    stranger = logging.getLogger("aiohttp.server")
    stranger.info("not this")
    stranger.warning("x" * 100_000)
    (line,) = paper.lines
    assert line["logger"] == "aiohttp.server"
    assert len(line["message"]) <= 500


def test_a_logger_has_the_level_that_it_is_given(paper: Paper) -> None:
    logs = paper.start("warning")
    logs.apply(
        Logging(
            level="warning",
            levels={
                "gateway.engine": "debug",
                "aiohttp": "info",
                "asyncio": "error",
                "gateway.request": "info",
            },
        )
    )
    logging.getLogger("gateway.engine").debug("engine_asked")
    logging.getLogger("gateway.web").info("web_asked")
    logging.getLogger("aiohttp.server").info("one of aiohttp's")
    logging.getLogger("asyncio").warning("not this")
    logs.requests.exchanged(exchange())
    assert [line["logger"] for line in paper.lines] == [
        *("gateway.engine", "aiohttp.server", "gateway.request")
    ]


def test_levels_hold_until_others_are_asked_for(paper: Paper) -> None:
    logs = paper.start("info")
    engine = logging.getLogger("gateway.engine")
    before = engine.level
    logs.apply(Logging(level="debug", levels={"gateway.engine": "error"}))
    assert (engine.level, log.isEnabledFor(logging.DEBUG)) == (logging.ERROR, True)
    logs.apply(Logging(level="error"))
    assert (engine.level, log.isEnabledFor(logging.WARNING)) == (before, False)
    logs.requests.exchanged(exchange(status=502))
    assert paper.lines == []


def test_of_what_went_well_a_sample_is_told_and_of_the_rest_all(paper: Paper) -> None:
    logs = paper.start()
    logs.apply(Logging(sample=0.1))
    told: dict[str, dict[str, Any]] = {
        "good": {},
        "refused": {"status": 503, "record": record(outcome="refused", status=503)},
        "wrong": {"status": 404, "record": None},
        "broken": {"record": record(outcome="failed", status=502)},
        "gone": {"status": 499, "record": record(outcome="cancelled", status=499)},
    }
    for name, facts in told.items():
        for number in range(500):
            logs.requests.exchanged(exchange(request_id=f"{name}-{number:08x}", **facts))
    ids = [line["request_id"].partition("-")[0] for line in paper.lines]
    counts = {name: ids.count(name) for name in told}
    assert 30 <= counts.pop("good") <= 70
    assert set(counts.values()) == {500}


def test_the_same_requests_are_sampled_everywhere(paper: Paper) -> None:
    logs = paper.start()
    told: list[set[str]] = []
    for sample in (0.2, 0.2, 0.5):
        logs.apply(Logging(sample=sample))
        before = len(paper.lines)
        for number in range(300):
            logs.requests.exchanged(exchange(request_id=f"5f0c1d2e3a4b{number:08x}"))
        told.append({line["request_id"] for line in paper.lines[before:]})
    assert told[0] == told[1]
    assert told[0] < told[2]


def test_a_sample_of_nothing_and_of_all() -> None:
    stream = io.StringIO()
    logs = setup("info", "json", stream)
    for sample in (0.0, 1.0):
        logs.apply(Logging(sample=sample))
        logs.requests.exchanged(exchange(request_id=f"sample-{sample}"))
    logs.close()
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["request_id"] == "sample-1.0"


def test_a_journal_is_told_how_grave_each_line_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Paper(tmp_path / "journal")
    stat = os.fstat(paper.file.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
    logs = paper.start("debug", "text")
    log.debug("looked")
    logs.requests.exchanged(exchange())
    log.warning("slow")
    try:
        raise RuntimeError("broken promise")
    except RuntimeError:
        log.exception("internal_error")
    text = paper.text
    logs.close()
    paper.file.close()
    assert [line[:3] for line in text[:4]] == ["<7>", "<6>", "<4>", "<3>"]
    # Of a traceback each line stands for itself.
    assert len(text) > 5
    assert all(line.startswith("<3>") for line in text[3:])


def test_only_the_journal_itself_is_one(paper: Paper) -> None:
    stat = os.fstat(paper.file.fileno())
    here = f"{stat.st_dev}:{stat.st_ino}"
    assert is_journal(paper.file.fileno(), {"JOURNAL_STREAM": here})
    for inherited in ("", "x", f"{stat.st_dev}", f"{stat.st_dev}:{stat.st_ino + 1}"):
        assert not is_journal(paper.file.fileno(), {"JOURNAL_STREAM": inherited})
    assert not is_journal(paper.file.fileno(), {})
    paper.start()
    log.info("plain")
    assert paper.text[0].startswith("{")


def test_warnings_of_python_are_lines_too(paper: Paper) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        paper.start()
        warnings.warn("old ways", UserWarning, stacklevel=1)
        assert "old ways" in paper.lines[0]["message"]


def test_a_message_with_the_wrong_arguments_is_lost_and_counted(paper: Paper) -> None:
    logs = paper.start()
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler) is LineHandler]
    ours.handle(logging.LogRecord("gateway.test", logging.INFO, "", 0, "%d", ("x",), None))
    log.info("fine")
    assert [line["event"] for line in paper.lines] == ["log_lines_dropped", "fine"]
    assert logs.lines_dropped == 1


def test_on_a_terminal_lines_are_for_people() -> None:
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal:
        logs = setup("info", "auto", terminal)
        logs.requests.exchanged(exchange())
        logs.close()
        line = os.read(ours, 10_000).decode()
    os.close(ours)
    assert " info    POST /v1/chat/completions 200 2.0 s  request_id=req-1" in line


@pytest.mark.parametrize(("format", "is_json"), [("json", True), ("auto", True), ("text", False)])
def test_off_a_terminal_lines_are_json_unless_text_is_asked_for(
    paper: Paper, format: Literal["auto", "json", "text"], is_json: bool
) -> None:
    logs = paper.start(format=format)
    logs.requests.exchanged(exchange())
    assert paper.text[0].startswith("{") == is_json


def test_a_stream_without_a_file_is_written_to() -> None:
    stream = io.StringIO()
    logs = setup("info", "json", stream)
    logs.requests.exchanged(exchange())
    logs.close()
    assert json.loads(stream.getvalue())["event"] == "request"


def closed_object() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def closed_file() -> TextIO:
    with tempfile.TemporaryFile("w") as stream:
        return stream


def pipe_without_reader() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


def full_disk() -> TextIO:
    return open("/dev/full", "w")


@pytest.mark.parametrize("stream", [closed_object, closed_file, pipe_without_reader, full_disk])
def test_a_stream_that_takes_nothing_harms_nobody(stream: Callable[[], TextIO]) -> None:
    broken = stream()
    logs = setup("info", "auto", broken)
    logs.requests.exchanged(exchange())
    log.error("drain_forced")
    logs.flush()
    assert logs.lines_dropped == 2
    logs.close()
    broken.close()


def test_a_stream_that_is_closed_later_is_still_written_to(paper: Paper) -> None:
    logs = paper.start()
    paper.file.close()
    logs.requests.exchanged(exchange())
    assert len(paper.lines) == 1


def test_closing_gives_back_what_setup_took(paper: Paper) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), warnings.showwarning)
    logs = paper.start("debug")
    logs.close()
    logs.close()
    assert (root.level, list(root.handlers), warnings.showwarning) == before


def test_no_text_of_a_caller_breaks_a_line(paper: Paper) -> None:
    logs = paper.start()
    forged = 'x\r\n{"event": "forged"}\x1b[31m\x85\u2028\ud800'
    logs.requests.exchanged(exchange(record=record(model=forged)))
    (line,) = paper.text
    assert line.isascii()
    assert "\x1b" not in line
    assert json.loads(line)["model"].startswith("x\\r\\n{")


def test_what_was_told_last_is_written_at_exit() -> None:
    program = (
        "import logging, sys; from gateway.telemetry.logs import setup;"
        "setup('info', 'json', sys.stdout); logging.getLogger('gateway.x').info('bye')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=30
    )
    assert json.loads(ran.stdout)["event"] == "bye"


def test_a_daemon_without_any_standard_stream_lives() -> None:
    program = (
        "import logging, os; from gateway.telemetry.logs import setup;"
        "logs = setup('info', 'auto'); logging.getLogger('gateway.x').error('alone');"
        "logs.flush(); os._exit(logs.lines_dropped)"
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program],
        check=False,
        timeout=30,
    )
    assert ran.returncode == 1


def test_modules_do_not_wait_for_a_full_log_either() -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        logs = setup("debug", "json", pipe)
        for number in range(6_000):
            log.debug("chatter %d", number)
        assert logs.lines_dropped > 0
        os.close(reading)
        logs.close()
