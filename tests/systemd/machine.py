"""A throw-away Debian with a real systemd as its process 1, and the gateway installed in it.

`systemd-nspawn` boots it from a folder, with a network of its own: nothing in it meets
anything of this machine. What is asked of it runs inside by `nsenter`. Making the Debian
takes half a minute and the network, once; it is kept in the cache.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).parents[2]
SUITES: Final = {(3, 11): "bookworm", (3, 13): "trixie"}
"""Debian's releases by their Python: wheels that were fetched here must fit there."""

PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,make,procps"
TOOLS: Final = ("systemd-nspawn", "mmdebstrap", "nsenter")
NEEDS: Final = ("setup.cfg", "pyproject.toml")
SOURCES: Final = ("gateway", "systemd", "conf", "Makefile", "README.md", "LICENSE", *NEEDS)

BOOT_S_MAX: Final = 60.0
COMMAND_S_MAX: Final = 90.0


class MissingError(Exception):
    """What this machine lacks to run another one."""


def lacking() -> str:
    """Why no machine can be booted here, "" if one can."""
    if os.geteuid() != 0:
        return "root"
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    if tools:
        return f"{', '.join(tools)} (on Debian: apt install systemd-container mmdebstrap)"
    if sys.version_info[:2] not in SUITES:
        return "Python 3.11 or 3.13, which are Debian's (make PYTHON=python3.11)"
    return ""


def _run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    written: str = done.stdout
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{written}"
    return written


def debian(cache: Path) -> Path:
    """A Debian that was never booted."""
    suite = SUITES[sys.version_info[:2]]
    made = cache / f"debian-{suite}"
    if not made.exists():
        making = cache / f"{made.name}.{os.getpid()}"
        cache.mkdir(parents=True, exist_ok=True)
        _run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", suite, making, timeout=300)
        making.rename(made)
    return made


def wheels(cache: Path) -> Path:
    """What the gateway needs to be built and to run, for an installation without a network."""
    needed = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in NEEDS)).hexdigest()
    made = cache / f"wheels-{SUITES[sys.version_info[:2]]}-{needed[:12]}"
    if not made.exists():
        making = cache / f"{made.name}.{os.getpid()}"
        _run(
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", making),
            *("setuptools", "wheel", ROOT),
            timeout=300,
        )
        for built in making.glob("ollama_gateway-*"):
            built.unlink()  # Only what it needs: it is built anew in there.
        making.rename(made)
    return made


def install(root: Path, wheels: Path) -> None:
    """As an operator does it: `make install` as root, in the unpacked sources."""
    sources = root / "usr/src/gateway"
    sources.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, sources / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, sources / name)
    shutil.copytree(wheels, root / "usr/src/wheels")
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/usr/src/wheels",
        "LC_ALL": "C.UTF-8",
    }
    _run(
        *("chroot", root, "make", "-C", "/usr/src/gateway", "install", "EMBEDDED=0"),
        env=environ,
        timeout=180,
    )


@attrs.frozen
class Done:
    """A command that has ended inside."""

    code: int
    output: str


@attrs.define(eq=False)
class Machine:
    """A booted one.

    Attributes:
        root: Its files.
        leader: Its process 1, as it is called out here.
    """

    root: Path
    leader: int

    def command(self, *command: str) -> list[str]:
        """What runs this inside."""
        namespaces = ("-m", "-u", "-i", "-n", "-p")
        return ["nsenter", "-t", str(self.leader), *namespaces, "--", *command]

    def try_(self, *command: str) -> Done:
        """Run it inside, however it ends."""
        done = subprocess.run(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S_MAX,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def run(self, *command: str) -> str:
        """Run it inside; it must succeed. Returns what it wrote."""
        done = self.try_(*command)
        assert done.code == 0, f"{' '.join(command)}: {done.code}\n{done.output}"
        return done.output

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, *properties: str) -> list[str]:
        """These properties of a unit, in this order."""
        lines = self.systemctl("show", unit, *(f"--property={name}" for name in properties))
        found = dict(line.split("=", 1) for line in lines.splitlines())
        return [found[name] for name in properties]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        file.chmod(mode)

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink(missing_ok=True)

    def journal(self, unit: str, since: str = "") -> str:
        """What a unit wrote, after this cursor."""
        after = ("--after-cursor", since) if since else ()
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, *after)

    def cursor(self) -> str:
        """The end of the journal as it is now."""
        last = self.run("journalctl", "--no-pager", "-n", "1", "-o", "json")
        return str(json.loads(last.splitlines()[-1])["__CURSOR"])


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the system in this folder; it is powered off at the end."""
    # As every installed system has it.
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    # Without one it would be a first boot, which asks questions and enables every unit.
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    log = root.parent / "boot.log"
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network"),
                *("--boot", "--console=pipe", f"--directory={root}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        ) as nspawn,
    ):
        try:
            machine = _up(nspawn, root)
            if machine is None:
                raise MissingError(
                    f"no machine could be booted here:\n{log.read_text('utf-8', 'replace')}"
                )
            yield machine
            machine.try_("systemctl", "poweroff", "--no-block")
            nspawn.wait(30.0)
        finally:
            if nspawn.poll() is None:
                # With its process 1 all others in it end, and then nspawn itself.
                for leader in _children(nspawn):
                    os.kill(leader, signal.SIGKILL)


def _up(nspawn: "subprocess.Popen[bytes]", root: Path) -> Machine | None:
    """The machine as soon as it is there; None when that takes too long."""
    until = time.monotonic() + BOOT_S_MAX
    while time.monotonic() < until and nspawn.poll() is None:
        for leader in _children(nspawn):
            machine = Machine(root, leader)
            if machine.try_("systemctl", "is-active", "--quiet", "multi-user.target").code == 0:
                return machine
        time.sleep(0.2)
    return None


def _children(process: "subprocess.Popen[bytes]") -> list[int]:
    try:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def copied(made: Path, to: Path) -> Path:
    _run("cp", "--archive", "--reflink=auto", made, to)
    return to
