"""`gateway check --deep`: looks at everything, then judges it."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.deep import judge_engine, judge_machine, judge_models, look
from gateway.cli.deep.ask import ask, configured
from gateway.cli.deep.engine_facts import EngineFacts
from gateway.cli.deep.finding import Finding
from gateway.config.effective import bind_address
from gateway.config.load import Loaded
from gateway.config.mistakes import file_words
from gateway.config.schema import Config


def findings(loaded: Loaded) -> list[Finding]:
    """All that is to be said of this configuration on this machine, now."""
    now = datetime.now(UTC)
    config = loaded.config
    files = ", ".join(file_words(layer.path) for layer in loaded.sources.layers)
    found = [Finding("configuration", "ok", files or "defaults and environment")]
    found += _engines(config, now)
    found += _machine(loaded, now)
    return found


def _engines(config: Config, now: datetime) -> list[Finding]:
    facts = asyncio.run(ask(config, judge_models.names(config), now))
    default_model = _default_model(config, facts)
    found: list[Finding] = []
    for one in facts:
        slots = configured(config)[one.name].slots
        found += judge_engine.all_of(one, config, slots, default_model)
    wanted = judge_models.wanted(config, default_model)
    found += judge_models.presence(wanted, facts)
    memory, gpu = look.memory(), look.has_gpu()
    for one in facts:
        found += judge_models.memory(one, config, wanted, memory, gpu=gpu)
    return found


def _default_model(config: Config, facts: Sequence[EngineFacts]) -> str:
    """As the daemon has it: the embedded model, where that is all there is."""
    if all(one.kind == "the embedded engine" for one in facts):
        return config.embedded.model_name
    return config.generation.default_model


def _machine(loaded: Loaded, now: datetime) -> list[Finding]:
    config, account = loaded.config, look.account()
    root = os.geteuid() == 0
    host, number = bind_address(config)
    found = [] if number == 0 else [judge_machine.port(look.port(host, number), root=root)]
    found.append(judge_machine.clock(now, look.synchronised()))
    directory = config.server.state_directory or look.service_state_directory()
    if directory:
        state = Path(directory)
        found += judge_machine.state(look.entry(state), look.free_bytes(state), account)
    else:
        found += judge_machine.state(None, None, account)
    keys_file = None if loaded.stored is None else look.entry(loaded.stored.path)
    read = [look.entry(layer.path) for layer in loaded.sources.layers]
    found += judge_machine.readable(read if keys_file is None else [*read, keys_file], account)
    found += judge_machine.keys(config, keys_file, now)
    found.append(judge_machine.open_files(look.files_limit(), config, service=look.UNIT.exists()))
    return found
