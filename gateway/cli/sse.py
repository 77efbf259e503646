"""A stream of server-sent events, as a command reads it (WHATWG HTML, section 9.2.6)."""

from collections.abc import Iterable, Iterator

import attrs


@attrs.frozen
class Record:
    """One event, or a comment between two of them."""

    data: str = ""
    comment: str = ""


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """The events and the comments of these lines, as they come."""
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith(":"):
            yield Record(comment=line[1:].strip())
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield Record(data="\n".join(data))
            data = []
