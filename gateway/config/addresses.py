"""Is this text a host, a loopback address, an engine's URL, a browser's origin? Pure.

Nothing is resolved: a name that DNS does not know yet is no mistake in a file.
"""

import ipaddress
import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_AUTHORITY: Final = re.compile(
    r"(\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^:\[\]]+))(:(?P<port>[0-9]{1,5}))?"
)
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+")


def is_host(text: str) -> bool:
    """Whether this is an IP address or a host name, and nothing around it."""
    return _is_ip(text) or _NAME.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it: 127.0.0.0/8, ::1, localhost.

    Any other name, even one that resolves to 127.0.0.1 today, counts as public.
    """
    return host.lower() == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def is_host_header(text: str) -> bool:
    """Whether a browser could send this as its Host: name or address, maybe a port."""
    return _is_ip(text) or _is_authority(text)


def is_origin(text: str) -> bool:
    """Whether a browser could send this as its Origin: in lower case, no path."""
    return _ORIGIN.fullmatch(text) is not None


def url_fault(url: str) -> str | None:
    """What is wrong with an engine's URL, as "must …"; None when nothing is.

    Right is scheme, host and maybe a port; one `/` at the end does no harm.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must be plain ASCII without spaces, such as http://localhost:11434."
    if not url.lower().startswith(("http://", "https://")):
        return "must begin with http:// or https://, such as http://localhost:11434."
    if "@" in url:
        return "must not have a user name or password in it; an engine's key goes into api_key."
    if "?" in url or "#" in url:
        return "must end after the port: no query and no fragment."
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    if not _is_authority(authority):
        return "must have a host and maybe a port from 1 to 65535, such as http://localhost:11434."
    if path.rstrip("/").rpartition("/")[2] == "v1":
        return (
            "must not end in /v1, the gateway adds what the engine needs;"
            f" write {scheme}://{authority}."
        )
    if path:
        return f"must not have a path; write {scheme}://{authority}."
    return None


def _is_authority(text: str) -> bool:
    """host, host:port, [ipv6] or [ipv6]:port."""
    found = _AUTHORITY.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) <= 65535):
        return False
    return is_host(found["host"]) if found["host"] else _is_ip(found["ipv6"])


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
