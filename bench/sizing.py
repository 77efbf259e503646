"""What fits into a machine with 8 GB, and how fast it can be: the tables of docs/sizing.md.

    python -m bench.sizing

A token of context costs a key and a value for each head that has its own, in each layer
(grouped-query attention: Ainslie et al., 2023, arXiv:2305.13245). Each answered token reads
all weights once, so its speed on a processor is that of the memory.
"""

from collections.abc import Iterator
from typing import Final

import attrs

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

NUMBER_BYTES: Final = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Of a cached number; a block of 32 has one scale of 16 bits (ggml-common.h)."""

MACHINE_BYTES: Final = 7.6 * GIB
"""Of "8 GB", what the kernel shows a cloud machine."""
SYSTEM_BYTES: Final = 0.7 * GIB
"""Debian, the gateway (its unit: about 0.1), Caddy, Alloy and some room."""
GRAPH_BYTES: Final = 0.4 * GIB
"""What an engine computes in, besides weights and cache."""

READ_BYTES_S: Final = 7.35 * 2.0e9
"""7.2 to 7.5 tokens a second of a model of 2.0 GB, measured on 4 ARM64 vCPUs with 8 GB."""

CONTEXT: Final = 8192
SLOTS: Final = 2
"""As systemd/ollama.conf has them."""


@attrs.frozen
class Model:
    """One that people run on such machines, in Ollama's usual quantization (Q4_K_M).

    Attributes:
        file_gb: What it weighs, as ollama.com lists it, in 10⁹ bytes.
        layers, kv_heads, head_size: As its config.json and `ollama show --verbose` tell.
    """

    name: str
    file_gb: float
    layers: int
    kv_heads: int
    head_size: int

    def token_bytes(self, cache: str) -> float:
        """What a token of context takes."""
        return 2 * self.layers * self.kv_heads * self.head_size * NUMBER_BYTES[cache]

    def context_bytes(self, cache: str, *, context: int = CONTEXT, slots: int = SLOTS) -> float:
        """What all slots take, each with a context of its own."""
        return self.token_bytes(cache) * context * slots

    def resident_bytes(self, cache: str) -> float:
        return self.file_gb * 1e9 + self.context_bytes(cache) + GRAPH_BYTES

    def contexts_max(self, cache: str) -> int:
        """Tokens for all slots together for which there is room, in steps of 1024."""
        room = MACHINE_BYTES - SYSTEM_BYTES - GRAPH_BYTES - self.file_gb * 1e9
        return max(0, int(room / self.token_bytes(cache)) // 1024 * 1024)

    @property
    def tokens_s(self) -> float:
        """Of one answer alone, on the machine that was measured."""
        return READ_BYTES_S / (self.file_gb * 1e9)


MODELS: Final = (
    Model("qwen2.5:0.5b", 0.40, 24, 2, 64),
    Model("llama3.2:1b", 1.3, 16, 8, 64),
    Model("qwen3:1.7b", 1.4, 28, 8, 128),
    Model("qwen2.5:3b", 1.9, 36, 2, 128),
    Model("llama3.2:3b", 2.0, 28, 8, 128),
    Model("phi4-mini:3.8b", 2.5, 32, 8, 128),
    Model("qwen3:4b", 2.5, 36, 8, 128),
    Model("mistral:7b", 4.4, 32, 8, 128),
    Model("qwen2.5:7b", 4.7, 28, 4, 128),
    Model("llama3.1:8b", 4.9, 32, 8, 128),
    Model("qwen3:8b", 5.2, 36, 8, 128),
)


def caches() -> Iterator[str]:
    """The table of what a token takes."""
    yield "| model | layers × heads × size | KiB a token, f16 | q8_0 | q4_0 |"
    yield "| --- | --- | --- | --- | --- |"
    for model in MODELS:
        shape = f"{model.layers} × {model.kv_heads} × {model.head_size}"
        sizes = (f"{model.token_bytes(cache) / KIB:.1f}" for cache in NUMBER_BYTES)
        yield f"| {model.name} | {shape} | {' | '.join(sizes)} |"


def fits() -> Iterator[str]:
    """The table of what fits."""
    yield (
        f"| model | file, GB | with {SLOTS} × {CONTEXT} at q8_0, GiB | at f16 |"
        " tokens for all slots at q8_0 | tokens/s alone |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for model in MODELS:
        told = []
        for cache in ("q8_0", "f16"):
            size = model.resident_bytes(cache)
            fit = size <= MACHINE_BYTES - SYSTEM_BYTES
            told.append(f"{size / GIB:.1f}" if fit else f"{size / GIB:.1f}: too much")
        yield (
            f"| {model.name} | {model.file_gb:.1f} | {' | '.join(told)} |"
            f" {model.contexts_max('q8_0'):,} | {model.tokens_s:.1f} |"
        )


def main() -> None:
    print("\n".join([*caches(), "", *fits()]))


if __name__ == "__main__":
    main()
