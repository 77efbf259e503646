"""A call of a tool while it is written, as the kind of tool has it."""

from collections.abc import Mapping
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json, Written
from gateway.dialects.openai_responses_freeform import Freeform
from gateway.dialects.openai_responses_items import Item, Records, Status, delta_opening
from gateway.dialects.openai_responses_tools import Callee


class _Call(Item):
    """Of any kind. `feed` takes the next piece of its arguments."""

    def __init__(
        self, records: Records, index: int, id: str, *, call_id: str, callee: Callee
    ) -> None:
        super().__init__(records, index, id)
        self._head: dict[str, Json] = {"id": self.id, "call_id": call_id}
        self._name: dict[str, Json] = {"name": callee.name}
        if callee.namespace is not None:
            self._name["namespace"] = callee.namespace


class FunctionCall(_Call):
    prefix = "fc"

    def __init__(
        self, records: Records, index: int, id: str, *, call_id: str, callee: Callee
    ) -> None:
        super().__init__(records, index, id, call_id=call_id, callee=callee)
        self._arguments: list[str] = []
        self._opening = delta_opening("response.function_call_arguments.delta", self._at)
        self._open(self._item("in_progress", ""))

    def feed(self, arguments: str) -> None:
        if arguments:
            self._arguments.append(arguments)
            self._records.delta(self._opening, arguments)

    def close(self, status: Status) -> Written:
        arguments = "".join(self._arguments)
        kind = "response.function_call_arguments.done"
        self._write(kind, self._at, **self._name, arguments=arguments)
        return self._close(self._item(status, arguments))

    def _item(self, status: Status, arguments: str) -> Json:
        return {
            **self._head,
            "type": "function_call",
            "status": status,
            **self._name,
            "arguments": arguments,
        }


class CustomCall(_Call):
    """A tool that takes a text: the one string of a function's arguments."""

    prefix = "ctc"

    def __init__(
        self, records: Records, index: int, id: str, *, call_id: str, callee: Callee
    ) -> None:
        super().__init__(records, index, id, call_id=call_id, callee=callee)
        self._input = Freeform()
        self._opening = delta_opening("response.custom_tool_call_input.delta", self._at)
        self._open(self._item("in_progress", ""))

    def feed(self, arguments: str) -> None:
        self._tell(self._input.feed(arguments))

    def close(self, status: Status) -> Written:
        self._tell(self._input.finish())
        text = self._input.text
        self._write("response.custom_tool_call_input.done", self._at, input=text)
        return self._close(self._item(status, text))

    def _tell(self, text: str) -> None:
        if text:
            self._records.delta(self._opening, text)

    def _item(self, status: Status, text: str) -> Json:
        return {
            **self._head,
            "type": "custom_tool_call",
            "status": status,
            **self._name,
            "input": text,
        }


class ShellCall(_Call):
    """A command for the caller's machine. It has no events of its own."""

    prefix = "lsh"

    def __init__(
        self, records: Records, index: int, id: str, *, call_id: str, callee: Callee
    ) -> None:
        super().__init__(records, index, id, call_id=call_id, callee=callee)
        self._arguments: list[str] = []
        self._open(self._item("in_progress", {}))

    def feed(self, arguments: str) -> None:
        self._arguments.append(arguments)

    def close(self, status: Status) -> Written:
        try:
            arguments = jsonio.loads("".join(self._arguments))
        except ValueError:
            arguments = None
        return self._close(self._item(status, arguments if isinstance(arguments, dict) else {}))

    def _item(self, status: Status, arguments: Mapping[str, Json]) -> Json:
        command = arguments.get("command") or []
        words = command if isinstance(command, list) else [command]
        action: dict[str, Json] = {
            "type": "exec",
            "command": [str(word) for word in words],
            "env": {},
        }
        # Left out where they are not said: some clients take no null here.
        directory, timeout_ms = arguments.get("working_directory"), arguments.get("timeout_ms")
        if isinstance(directory, str):
            action["working_directory"] = directory
        if type(timeout_ms) is int:
            action["timeout_ms"] = timeout_ms
        return {**self._head, "type": "local_shell_call", "status": status, "action": action}


Call = FunctionCall | CustomCall | ShellCall

CALLS: Final[Mapping[str, type[Call]]] = {
    "function": FunctionCall,
    "custom": CustomCall,
    "local_shell": ShellCall,
}
"""By the kind of the callee."""
