"""The installed service under a real systemd: D1, D4-D7, D9-D11, C8, and no request lost."""

import json
import time
from typing import Final

import pytest

from tests.systemd.conftest import Figure
from tests.systemd.service import CONFIG, CONFIG_FILE, GATEWAY, PYTHON, SOCKET, UNIT, Service

pytestmark = pytest.mark.systemd

STATUS_EVERY_S: Final = 2.0
KEY: Final = "a-credential-that-only-systemd-has-read"
SOON_S: Final = 5.0
"""For what takes a second on a machine that does nothing else."""

FREEZER: Final = f"""\
import signal, sys, time
# Held is the thread of the loop; all others go on.
signal.signal(signal.SIGRTMIN, lambda *_: time.sleep(600))
from gateway.cli.main import main
sys.exit(main(["serve", "--config", "{CONFIG_FILE}"]))
"""


# --- Start ----------------------------------------------------------------------------


def test_started_is_what_answers_with_its_model_warm(service: Service, figure: Figure) -> None:
    took = service.start()
    # Asked in the moment that systemd says so: both answers are there already.
    assert service.get("/ready").status == 200
    assert service.chat().status == 200
    assert service.show("ActiveState", "SubState") == ["active", "running"]
    # Wanted by the unit, and so started before it.
    assert service.machine.systemctl("is-active", "ollama.service") == "active\n"
    figure("systemctl start, until READY", f"{took:.1f} s")


def test_while_the_model_loads_it_is_starting_and_answers_already(service: Service) -> None:
    # Longer than the limit on the start, which the daemon moves along.
    service.drop_in("TimeoutStartSec=2")
    service.engine(load_s=6.0)
    service.machine.systemctl("start", "--no-block", UNIT)
    service.until(lambda: service.get("/health").status == 200, "listened")
    ready = service.get("/ready")
    assert (ready.status, json.loads(ready.body)["reason"]) == (503, "warming_up")
    assert service.state == "activating"
    service.until(lambda: service.state == "active", "ready")
    assert service.get("/ready").status == 200
    assert service.one("NRestarts") == "0"


def test_without_its_engine_it_starts_and_serves_as_soon_as_that_is_there(
    service: Service, figure: Figure
) -> None:
    service.engine_fails()
    took = service.start()
    assert service.one("StatusText").startswith("no backend answers: ")
    assert service.get("/health").status == 200
    ready = service.get("/ready")
    assert (ready.status, json.loads(ready.body)["reason"]) == (503, "backend")
    assert service.chat().status == 502
    figure("systemctl start without an engine, until READY", f"{took:.1f} s")
    service.engine()
    service.until(lambda: service.get("/ready").status == 200, "found the engine")
    assert service.chat().status == 200


def test_the_status_says_what_is_going_on(service: Service) -> None:
    service.start()
    assert service.one("StatusText") == "serving: 0 running, 0 waiting, 8 slots, words loaded"
    with service.stream(50, 0.1):
        service.until(lambda: ": 1 running, " in service.one("StatusText"), "said so")
    service.until(lambda: ": 0 running, " in service.one("StatusText"), "said so")


# --- The socket ---------------------------------------------------------------------------


def test_nobody_is_refused_over_three_restarts_under_load(service: Service, figure: Figure) -> None:
    service.start()
    first = service.pid
    load = service.load(24)
    took = []
    for _ in range(3):
        load.more(300)
        took.append(service.restart())
    load.more(300)
    report = load.end()
    assert service.pid != first
    well = report["results"].get("ok", 0)
    figure(
        "three restarts under load through the socket",
        f"{well} of {report['answers']} answered, the slowest after {report['slowest_s']} s",
    )
    figure("each restart took", ", ".join(f"{seconds:.1f} s" for seconds in took))
    assert report["results"].keys() == {"ok"}, report
    assert report["answers"] >= 900


def test_a_connection_starts_it_and_is_answered(service: Service) -> None:
    service.machine.systemctl("start", SOCKET)
    assert service.state == "inactive"
    assert service.chat().status == 200
    assert service.state in {"activating", "active"}


def test_without_the_socket_it_binds_its_own_address(service: Service) -> None:
    service.machine.systemctl("start", UNIT)
    assert service.chat().status == 200
    assert service.machine.try_("systemctl", "is-active", SOCKET).output == "inactive\n"


def test_a_public_socket_without_a_key_is_a_mistake_and_not_served(service: Service) -> None:
    drop_in = "/etc/systemd/system/gateway.socket.d/test.conf"
    service.machine.write(drop_in, "[Socket]\nListenStream=\nListenStream=0.0.0.0:8000\n")
    service.machine.systemctl("daemon-reload")
    try:
        assert service.machine.try_("systemctl", "start", SOCKET, UNIT).code != 0
        assert service.one("ExecMainStatus") == "78"
        assert "the passed socket 0.0.0.0:8000: insecure_bind: " in service.journal()
    finally:
        service.machine.systemctl("stop", SOCKET)
        service.machine.remove(drop_in)


# --- Reload ---------------------------------------------------------------------------------


def test_a_reload_takes_up_what_is_new_and_disturbs_nobody(
    service: Service, figure: Figure
) -> None:
    service.start()
    pid = service.pid
    load = service.load(8)
    load.more(50)
    alias = '\n[models.other-name]\ntarget = "words"\n'
    service.configure(CONFIG + alias)
    began = time.monotonic()
    service.machine.systemctl("reload", UNIT)
    service.until(lambda: '"other-name"' in service.get("/v1/models").body, "took it up")
    figure("systemctl reload, until it is in force", f"{time.monotonic() - began:.1f} s")
    load.more(50)
    report = load.end()
    assert report["results"].keys() == {"ok"}, report
    assert service.pid == pid
    assert service.state == "active"
    assert "config_reloaded" in service.events()


def test_a_reload_of_a_wrong_configuration_fails_and_changes_nothing(service: Service) -> None:
    service.start()
    pid = service.pid
    service.configure(CONFIG + "\n[queue]\nmax_queue_size = -1\n")
    assert service.machine.try_("systemctl", "reload", UNIT).code != 0
    assert service.state == "active"
    assert service.pid == pid
    assert service.chat().status == 200
    assert "queue.max_queue_size = -1: " in service.journal()
    # The daemon itself refuses it too, when it is sent the signal.
    service.machine.systemctl("kill", "-s", "SIGHUP", "--kill-who=main", UNIT)
    service.until(lambda: "config_reload_failed" in service.events(), "refused it")
    assert service.state == "active"
    assert service.chat().status == 200


# --- What goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["SIGSTOP", "SIGRTMIN"])
def test_a_frozen_loop_is_killed_and_served_again(
    service: Service, figure: Figure, signal: str
) -> None:
    service.machine.write("/usr/local/lib/freezer.py", FREEZER)
    service.drop_in("WatchdogSec=3", "ExecStart=", f"ExecStart={PYTHON} /usr/local/lib/freezer.py")
    service.start()
    pid = service.pid
    # It lives as long as it turns.
    time.sleep(4.0)
    assert service.pid == pid
    service.machine.systemctl("kill", "-s", signal, "--kill-who=main", UNIT)
    took = service.until(
        lambda: service.pid not in {0, pid} and service.state == "active", "started anew"
    )
    assert service.chat().status == 200
    assert service.one("NRestarts") == "1"
    journal = service.journal()
    assert "Watchdog timeout" in journal
    # Where it stood is told, by function and line.
    assert "Fatal Python error: Aborted" in journal
    if signal == "SIGRTMIN":
        assert 'freezer.py", line 3 in <lambda>' in journal
    figure(f"frozen by {signal} (WatchdogSec=3), until READY again", f"{took:.1f} s")


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGABRT", "SIGSEGV"])
def test_one_that_was_killed_serves_again_at_once_on_the_same_address(
    service: Service, figure: Figure, signal: str
) -> None:
    service.start()
    pid = service.pid
    began = time.monotonic()
    service.machine.systemctl("kill", "-s", signal, "--kill-who=main", UNIT)
    # Who asks now waits in the socket, and is not refused.
    assert service.chat().status == 200
    answered = time.monotonic() - began
    service.until(lambda: service.state == "active", "ready")
    assert service.pid != pid
    figure(f"{signal}, until the next request was answered", f"{answered:.1f} s")
    assert answered < SOON_S


def test_a_wrong_configuration_is_not_started_again(service: Service) -> None:
    service.configure("[server]\nprot = 8000\n")
    assert service.machine.try_("systemctl", "start", UNIT).code != 0
    time.sleep(1.5)  # Longer than RestartSec.
    assert service.show("ActiveState", "NRestarts", "ExecMainStatus") == ["failed", "0", "78"]
    journal = service.journal()
    assert f"gateway: {CONFIG_FILE}: server.prot: there is no such key" in journal
    assert "Traceback" not in journal


def test_a_state_directory_that_can_not_be_used_is_not_started_again(service: Service) -> None:
    service.drop_in("Environment=STATE_DIRECTORY=/proc/nothing")
    assert service.machine.try_("systemctl", "start", UNIT).code != 0
    assert service.show("NRestarts", "ExecMainStatus") == ["0", "73"]
    assert "/proc/nothing can't be used: " in service.journal()


def test_a_crash_loop_ends_and_is_told(service: Service, figure: Figure) -> None:
    service.drop_in("ExecStart=", f"ExecStart={PYTHON} -c 'raise SystemExit(70)'")
    began = time.monotonic()
    service.machine.try_("systemctl", "start", UNIT)
    service.until(lambda: "Start request repeated too quickly" in service.journal(), "given up")
    figure("a crash loop is given up after", f"{time.monotonic() - began:.1f} s")
    assert service.show("ActiveState", "NRestarts") == ["failed", "5"]


def test_a_second_gateway_on_the_state_directory_gives_way(
    service: Service, figure: Figure
) -> None:
    service.start()
    pid = service.pid
    began = time.monotonic()
    second = service.machine.try_(
        *("env", "STATE_DIRECTORY=/var/lib/gateway", "PORT=8100"),
        *(GATEWAY, "serve", "--config", CONFIG_FILE),
    )
    figure(
        "a second one on the state directory gave way after", f"{time.monotonic() - began:.1f} s"
    )
    assert second.code == 69
    assert f"state_locked: /var/lib/gateway is in use by another gateway (process {pid})" in (
        second.output
    )
    assert service.chat().status == 200
    assert service.pid == pid


@pytest.mark.parametrize(
    ("announced", "words"),
    [
        ("LISTEN_FDS=0", "must be how many sockets were passed"),
        ("LISTEN_FDS=2", "descriptor 4 is no socket"),
        ("LISTEN_FDS=1", "descriptor 3 is no socket"),
    ],
)
def test_what_is_passed_and_is_no_socket_is_a_mistake(
    service: Service, announced: str, words: str
) -> None:
    passes = f"exec 3<>/dev/null; {announced} LISTEN_PID=$$ exec {GATEWAY} serve"
    wrong = service.machine.try_("sh", "-c", passes)
    assert wrong.code == 78
    assert words in wrong.output
    assert "Traceback" not in wrong.output


# --- The end --------------------------------------------------------------------------------


def test_an_idle_one_stops_at_once(service: Service, figure: Figure) -> None:
    service.start()
    service.machine.systemctl("stop", SOCKET)
    began = time.monotonic()
    service.machine.systemctl("stop", UNIT)
    figure("systemctl stop, idle", f"{time.monotonic() - began:.1f} s")
    assert service.show("Result", "ExecMainStatus") == ["success", "0"]


def test_a_stop_ends_streams_within_the_grace_and_tells_them(
    service: Service, figure: Figure
) -> None:
    service.configure(CONFIG + "\n[server]\nshutdown_grace_seconds = 4\n")
    service.start()
    with service.stream(25, 0.1) as short, service.stream(600, 0.1) as long:
        service.until(lambda: service.running() == 2, "ran both")
        began = time.monotonic()
        service.machine.systemctl("stop", SOCKET, UNIT)
        took = time.monotonic() - began
        finished, cut = (stream.communicate(timeout=20.0)[0] for stream in (short, long))
    assert finished.rstrip().endswith("data: [DONE]")
    assert '"code":"shutting_down"' in cut
    assert "[DONE]" not in cut
    assert service.show("Result", "ExecMainStatus") == ["success", "0"]
    assert "drain_forced" in service.events()
    figure("systemctl stop with a stream that has no end, grace 4 s", f"{took:.1f} s")
    assert 3.5 < took < 4.0 + SOON_S


def test_a_grace_that_is_longer_than_the_limit_of_the_unit_is_granted(service: Service) -> None:
    service.drop_in("TimeoutStopSec=2")
    service.start()
    with service.stream(50, 0.1) as stream:
        service.until(lambda: service.running() == 1, "ran it")
        service.machine.systemctl("stop", SOCKET, UNIT)
        whole, _ = stream.communicate(timeout=20.0)
    assert whole.rstrip().endswith("data: [DONE]")
    assert service.show("Result", "ExecMainStatus") == ["success", "0"]


# --- Credentials, state and the sandbox ---------------------------------------------------------


def test_the_key_is_a_credential_that_only_the_service_has(service: Service) -> None:
    service.machine.write("/etc/gateway/api-key", KEY + "\n", mode=0o600)
    service.drop_in(
        "LoadCredential=api-key:/etc/gateway/api-key",
        "Environment=GATEWAY__AUTH__API_KEY_FILE=%d/api-key",
    )
    service.start()
    assert service.chat(key=KEY).status == 200
    assert service.chat().status == 401
    assert service.chat(key=KEY[:-1]).status == 401
    assert KEY not in service.machine.run("cat", f"/proc/{service.pid}/environ")
    # The check before a reload sees the credential too.
    service.machine.systemctl("reload", UNIT)
    assert service.state == "active"


def test_a_credential_that_is_missing_stops_the_start(service: Service) -> None:
    service.drop_in("LoadCredential=api-key:/etc/gateway/no-such-file")
    assert service.machine.try_("systemctl", "start", UNIT).code != 0
    assert service.one("ExecMainStatus") == "243"  # EXIT_CREDENTIALS of systemd


def test_what_was_learned_outlives_a_restart_and_is_for_the_service_alone(
    service: Service,
) -> None:
    service.start()
    for _ in range(3):
        assert service.chat(4, 0.01).status == 200
    service.restart()
    learned = "/var/lib/gateway/estimates.json"
    assert "words" in service.machine.run("cat", learned)
    listed = service.machine.run("stat", "-c", "%U %a %n", "/var/lib/gateway", learned)
    assert listed.splitlines() == ["gateway 700 /var/lib/gateway", f"gateway 600 {learned}"]
    before = service.machine.run("cat", learned)
    assert service.chat(4, 0.01).status == 200
    service.machine.systemctl("stop", SOCKET, UNIT)
    assert len(service.machine.run("cat", learned)) >= len(before) - 200


def test_the_sandbox_is_as_closed_as_it_says(service: Service, figure: Figure) -> None:
    service.start()
    service.chat()
    report = service.machine.systemctl("--version").splitlines()[0]
    score = service.machine.run("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    figure("exposure, as that systemd sees it running", f"{score.split(':')[1].strip()} ({report})")
    assert float(score.split(":")[1].split()[0]) <= 1.2
    memory = service.machine.run("grep", "VmRSS", f"/proc/{service.pid}/status").split()
    figure("resident memory, without an engine of its own", f"{int(memory[1]) // 1024} MiB")
