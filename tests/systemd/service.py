"""The installed service, as an operator and its callers see it from inside the machine."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from tests.systemd.machine import Machine

PYTHON: Final = "/opt/gateway/venv/bin/python"
GATEWAY: Final = "/opt/gateway/venv/bin/gateway"
CONFIG_FILE: Final = "/etc/gateway/gateway.toml"
URL: Final = "http://127.0.0.1:8000"
UNIT: Final = "gateway.service"
SOCKET: Final = "gateway.socket"
DROP_IN: Final = "/etc/systemd/system/gateway.service.d/test.conf"
HANG_S: Final = 40.0

CONFIG: Final = """\
[backend]
kind = "ollama"
slots = 8

[generation]
default_model = "words"
"""

ENGINE_UNIT: Final = f"""\
[Unit]
Description=Stand-in for Ollama
[Service]
ExecStart={PYTHON} /usr/local/lib/engine.py 11434 0
"""

_ASK: Final = """\
import json, sys, urllib.error, urllib.request
method, path, body, key = sys.argv[1:]
headers = {"Content-Type": "application/json"}
if key:
    headers["Authorization"] = "Bearer " + key
request = urllib.request.Request(
    "http://127.0.0.1:8000" + path, data=body.encode() or None, headers=headers, method=method
)
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(answer.status), print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code), print(error.read().decode())
except OSError as error:
    print(0), print(error)
"""


@attrs.frozen
class Answer:
    """What came of a request; status 0: nobody was there."""

    status: int
    body: str


def chat(words: int, pace_s: float, **more: Any) -> str:
    """The body of a chat with so many words at this pace."""
    messages = [{"role": "user", "content": f"{words} {pace_s}"}]
    return json.dumps({"model": "default", "messages": messages, **more})


class Service:
    """gateway.service, and what was changed of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._since = machine.cursor()

    # --- What an operator does ----------------------------------------------

    def start(self) -> float:
        """As a boot does, with its socket; the seconds it took."""
        began = time.monotonic()
        self.machine.systemctl("start", SOCKET, UNIT)
        return time.monotonic() - began

    def restart(self) -> float:
        began = time.monotonic()
        self.machine.systemctl("restart", UNIT)
        return time.monotonic() - began

    def drop_in(self, *lines: str) -> None:
        """`systemctl edit gateway`, with these lines in its [Service]."""
        self.machine.write(DROP_IN, "\n".join(["[Service]", *lines, ""]))
        self.machine.systemctl("daemon-reload")

    def configure(self, text: str) -> None:
        self.machine.write(CONFIG_FILE, text)

    def engine(self, *, load_s: float = 0.0) -> None:
        """Another engine of the same name, which needs so long to load its model."""
        self.machine.write(
            "/etc/systemd/system/ollama.service.d/test.conf",
            f"[Service]\nExecStart=\nExecStart={PYTHON} /usr/local/lib/engine.py 11434 {load_s}\n",
        )
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("restart", "ollama.service")

    def engine_fails(self) -> None:
        """From now on there is none, whoever wants one."""
        self.machine.systemctl("stop", "ollama.service")
        self.machine.write(
            "/etc/systemd/system/ollama.service.d/test.conf",
            "[Service]\nExecStart=\nExecStart=/bin/false\n",
        )
        self.machine.systemctl("daemon-reload")

    def undo(self) -> None:
        """Stopped, and as it was installed."""
        machine = self.machine
        machine.try_("systemctl", "kill", "-s", "SIGKILL", UNIT)
        machine.try_("systemctl", "stop", SOCKET, UNIT, "ollama.service")
        machine.remove(DROP_IN)
        machine.remove("/etc/systemd/system/ollama.service.d/test.conf")
        machine.write(CONFIG_FILE, CONFIG)
        machine.systemctl("daemon-reload")
        machine.systemctl("reset-failed")

    # --- What systemd says ----------------------------------------------------

    def show(self, *properties: str) -> list[str]:
        return self.machine.show(UNIT, *properties)

    def one(self, name: str) -> str:
        (value,) = self.show(name)
        return value

    @property
    def state(self) -> str:
        return self.one("ActiveState")

    @property
    def pid(self) -> int:
        return int(self.one("MainPID"))

    def running(self) -> int:
        """Requests that were accepted and have not ended."""
        page = self.get("/metrics").body
        (line,) = [line for line in page.splitlines() if line.startswith("active_requests ")]
        return int(float(line.split()[1]))

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """Wait until this is so; the seconds it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < HANG_S, f"never {what}:\n{self.journal()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def journal(self) -> str:
        """What the service and systemd wrote of it since the test began."""
        return self.machine.journal(UNIT, self._since)

    def events(self) -> list[str]:
        """The events of the daemon's own lines."""
        lines = (line for line in self.journal().splitlines() if line.startswith("{"))
        return [json.loads(line)["event"] for line in lines]

    # --- What callers get -------------------------------------------------------

    def ask(self, method: str, path: str, body: str = "", key: str = "") -> Answer:
        written = self.machine.run(PYTHON, "-c", _ASK, method, path, body, key)
        status, _, text = written.partition("\n")
        return Answer(int(status), text.rstrip("\n"))

    def get(self, path: str, key: str = "") -> Answer:
        return self.ask("GET", path, key=key)

    def chat(self, words: int = 2, pace_s: float = 0.0, key: str = "", **more: Any) -> Answer:
        return self.ask("POST", "/v1/chat/completions", chat(words, pace_s, **more), key)

    def stream(self, words: int, pace_s: float) -> "subprocess.Popen[str]":
        """A client that prints its stream as it comes."""
        return subprocess.Popen(
            self.machine.command(
                *(PYTHON, "-c", _ASK, "POST", "/v1/chat/completions"),
                *(chat(words, pace_s, stream=True), ""),
            ),
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, clients: int) -> "Load":
        return Load(self.machine, clients)


class Load:
    """Clients that ask and ask; see load.py."""

    def __init__(self, machine: Machine, clients: int) -> None:
        self._process = subprocess.Popen(
            machine.command(PYTHON, "/usr/local/lib/load.py", URL, str(clients)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answers(self) -> int:
        """How many they had so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def more(self, answers: int) -> None:
        """Until they had so many more."""
        wanted = self.answers() + answers
        began = time.monotonic()
        while self.answers() < wanted:
            assert time.monotonic() - began < HANG_S, "nobody is answered"
            time.sleep(0.1)

    def end(self) -> dict[str, Any]:
        """Their report."""
        written, _ = self._process.communicate(timeout=HANG_S)
        report: dict[str, Any] = json.loads(written.splitlines()[-1])
        return report
