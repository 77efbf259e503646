"""deploy/deploy.sh against a machine of its own: nothing, once, twice, further, back."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.systemd import machine as machines
from tests.systemd.machine import ROOT, Machine

pytestmark = [pytest.mark.systemd, pytest.mark.slow]

NEEDED: Final = ("gateway", "systemd", "conf", "deploy", "Makefile", "README.md", "LICENSE")
CURRENT: Final = "/opt/gateway/venv"

SSH: Final = """\
#!/bin/sh
# ssh HOST COMMAND, to the machine beside us
shift
exec nsenter -t {leader} -m -u -i -n -p -- env -i HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c "$*"
"""
CONFIG: Final = '[backend]\nkind = "echo"\n'
INSTALL: Final = "{unit}[Install]\nWantedBy=multi-user.target\n"
PIP: Final = "[global]\nno-index = true\nfind-links = /usr/src/wheels\n"
ASK: Final = """\
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8000" + sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@attrs.frozen
class Deployment:
    """Sources to deploy, and the machine that they are deployed to."""

    machine: Machine
    sources: Path
    ssh: Path

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["deploy/deploy.sh", "--seconds", "20", *options, "root@machine"],
            cwd=self.sources,
            env={
                **os.environ,
                "DEPLOY_SSH": str(self.ssh),
                "MAKE": f"make tools={ROOT}/.tools MAKEFLAGS= MAKELEVEL=",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )

    def deploy(self, *options: str) -> str:
        """It must succeed; returns what it said it did."""
        done = self.run(*options)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.sources / path
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")

    def release(self) -> str:
        """The one in use, by the name of its folder."""
        return Path(self.machine.run("readlink", CURRENT).strip()).parent.name

    def status(self, path: str, *prefix: str) -> str:
        return self.machine.run(*prefix, "python3", "-c", ASK, path).strip()

    def files(self) -> str:
        """Every file of the system, with its size and its time."""
        places = ("/etc", "/opt", "/usr", "/var/lib/gateway", "/home", "/root")
        there = [place for place in places if (self.machine.root / place[1:]).exists()]
        return self.machine.run("find", *there, "-type", "f", "-printf", r"%p %s %T@ %m\n")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    if lack := machines.lacking():
        pytest.fail(f"to boot a machine needs {lack}", pytrace=False)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gateway-systemd"
    with tempfile.TemporaryDirectory(prefix="gateway-deploy-") as name:
        folder = Path(name)
        sources = folder / "sources"
        sources.mkdir()
        for needed in (*NEEDED, *machines.NEEDS):
            copy = shutil.copytree if (ROOT / needed).is_dir() else shutil.copy2
            copy(ROOT / needed, sources / needed)
        root = machines.copied(machines.debian(cache), folder / "root")
        wheels(root / "usr/src/wheels")
        (root / "etc/pip.conf").write_text(PIP)
        (root / "etc/gateway").mkdir()
        (root / "etc/gateway/gateway.toml").write_text(CONFIG)
        with machines.booted(root) as machine:
            ssh = folder / "ssh"
            ssh.write_text(SSH.format(leader=machine.leader))
            ssh.chmod(0o755)
            yield Deployment(machine, sources, ssh)


def wheels(folder: Path) -> None:
    """What the lock pins, for a machine without a network."""
    text = (ROOT / "deploy/locks/gateway.txt").read_text("utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        # Of this one there is none; the bundle brings it.
        lock.write(re.sub(r"^quantile-python==.*\n( .*\n)+", "", text, flags=re.MULTILINE))
        lock.flush()
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", lock.name),
            ],
            check=True,
            timeout=180,
        )


def test_a_dry_run_tells_every_step_and_takes_none(deployment: Deployment) -> None:
    before = deployment.files()
    told = deployment.deploy("--dry-run", "--domain", "llm.example.com", "--ollama", "0.24.0")
    assert "==>" not in told.partition(", release ")[2]
    assert "would: write /etc/systemd/system/ollama.service.d/gateway.conf" in told
    assert "would: write /etc/caddy/gateway.caddyfile" in told
    assert deployment.files() == before


def test_what_was_installed_serves_and_installing_it_again_changes_nothing(
    deployment: Deployment,
) -> None:
    machine = deployment.machine
    assert "is in use and ready." in deployment.deploy()
    assert machine.systemctl("is-enabled", "gateway.service").strip() == "enabled"
    assert deployment.status("/ready") == "200"
    assert machine.run("cat", "/etc/gateway/gateway.toml") == CONFIG
    version = machine.run("/usr/local/bin/gateway", "--version")
    assert deployment.release().split("-")[0] in version

    # Root is an operator; another account, such as that of a proxy, is not.
    assert deployment.status("/gateway/status") == "200"
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert deployment.status("/gateway/status", *nobody) == "403"

    before, runs = deployment.files(), machine.show("gateway.service", "MainPID")
    assert f"Nothing to change: {deployment.release()} is in use.\n" in deployment.deploy()
    assert deployment.files() == before
    assert machine.show("gateway.service", "MainPID") == runs

    machine.run("sh", "-c", "echo '# by hand' >>/etc/systemd/system/gateway.service")
    assert "==> write /etc/systemd/system/gateway.service" in deployment.deploy()
    assert deployment.files() != before  # its time
    assert "by hand" not in machine.run("cat", "/etc/systemd/system/gateway.service")


def test_a_release_that_does_not_serve_is_left_for_the_one_before(deployment: Deployment) -> None:
    deployment.deploy()
    good = deployment.release()
    entry, text = "gateway/daemon/run.py", "def serve("
    deployment.edit(entry, text, "raise SystemExit(3)\n\n\ndef serve(")
    try:
        done = deployment.run()
    finally:
        deployment.edit(entry, "raise SystemExit(3)\n\n\ndef serve(", text)
    assert done.returncode == 1
    assert f"does not serve; going back to {good}" in done.stdout
    assert deployment.release() == good
    assert deployment.status("/ready") == "200"


def test_a_newer_release_takes_over_and_the_one_before_can_be_had_back(
    deployment: Deployment,
) -> None:
    deployment.deploy()
    older = deployment.release()
    deployment.edit("gateway/__init__.py", '"0.', '"9.')
    assert "is in use and ready." in deployment.deploy()
    newer = deployment.release()
    assert newer.startswith("9.")
    for expected in (older, newer):
        assert "is in use and ready." in deployment.deploy("--rollback")
        assert deployment.release() == expected
        assert deployment.status("/ready") == "200"


def test_who_does_without_the_socket_goes_on_without_it(deployment: Deployment) -> None:
    machine = deployment.machine
    deployment.deploy()
    machine.run("systemctl", "disable", "--now", "gateway.socket")
    deployment.edit("gateway/__init__.py", '"9.', '"10.')
    assert "is in use and ready." in deployment.deploy()
    wants = "/etc/systemd/system/sockets.target.wants/gateway.socket"
    machine.run("sh", "-c", f"! test -e {wants} && systemctl is-active gateway.service")
    machine.run("systemctl", "enable", "gateway.socket")


def test_what_stands_beside_it_is_set_up_too(deployment: Deployment) -> None:
    machine = deployment.machine
    machine.write("/usr/local/bin/ollama", "#!/bin/sh\nexec sleep infinity\n", mode=0o755)
    machine.write(
        "/etc/systemd/system/ollama.service", "[Service]\nExecStart=/usr/local/bin/ollama\n"
    )
    package(machine, "alloy", "[Service]\nUser=alloy\nExecStart=/usr/bin/sleep infinity\n")
    machine.run("useradd", "--system", "alloy")

    told = deployment.deploy("--ollama", "0.24.0", "--alloy")
    assert "install Ollama" not in told
    (environment,) = machine.show("ollama.service", "Environment")
    assert "OLLAMA_HOST=127.0.0.1:11434" in environment.split()
    assert machine.systemctl("is-active", "ollama.service").strip() == "active"
    # Nobody has said yet where to send what.
    assert "Alloy is not started" in told
    machine.write("/etc/default/alloy", "PROMETHEUS_URL=https://prometheus.example.com\n")
    assert "==> restart alloy.service" in deployment.deploy("--ollama", "0.24.0", "--alloy")
    assert "systemd-journal" in machine.run("id", "-nG", "alloy").split()
    assert "Nothing to change" in deployment.deploy("--ollama", "0.24.0", "--alloy")


def package(machine: Machine, name: str, unit: str) -> None:
    """A stand-in for a package that a machine without a network can't fetch."""
    folder = f"/usr/src/{name}"
    machine.write(
        f"{folder}/DEBIAN/control",
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n",
    )
    machine.write(f"{folder}/usr/lib/systemd/system/{name}.service", INSTALL.format(unit=unit))
    machine.run("dpkg-deb", "--build", folder, f"{folder}.deb")
    machine.run("dpkg", "--install", f"{folder}.deb")


@pytest.mark.parametrize(
    "arguments", [[], ["--speed", "host"], ["--domain"], ["host", "another"]], ids=" ".join
)
def test_a_mistake_in_the_call_is_64_and_touches_nothing(arguments: list[str]) -> None:
    done = subprocess.run(
        ["deploy/deploy.sh", *arguments],
        cwd=ROOT,
        env={**os.environ, "DEPLOY_SSH": "/bin/false", "MAKE": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == os.EX_USAGE
    assert done.stderr
