"""What the predecessor measured of itself, as it documents it.

It stood before an Ollama that answers one request at a time, with llama3.2 (3B) on an
ARM64 machine of 4 vCPU and 8 GB: 7.2 to 7.5 tokens/s. It held 50 requests and gave each
60 s. Where it tells no figure there is none here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MEASURED_ON: Final = (
    "llama3.2 3B by a sequential Ollama on an ARM64 VM (4 vCPU, 8 GB), 7.2-7.5 tokens/s;"
    " its queue holds 50, its requests have 60 s"
)

Figures = Mapping[str, float]
"""By the key of a measure."""

FIGURES: Final[Mapping[str, Mapping[str, Figures]]] = MappingProxyType(
    {
        # The means of its ranges: 2.0-2.9 s, 7.2-7.5 tokens/s.
        "throughput": {"1 client": {"latency_mean_s": 2.45, "tokens_per_s": 7.35}},
        # Answered + rejected + timed out are as many as the concurrency: it sent each level once.
        "concurrency": {
            "1": {"latency_mean_s": 7.4, "answered": 1, "refused": 0, "timed_out": 0},
            "5": {"latency_mean_s": 10.0, "answered": 5, "refused": 0, "timed_out": 0},
            "10": {"latency_mean_s": 18.7, "answered": 10, "refused": 0, "timed_out": 0},
            "20": {"latency_mean_s": 42.9, "answered": 20, "refused": 0, "timed_out": 0},
            "30": {"latency_mean_s": 20.9, "answered": 8, "refused": 0, "timed_out": 22},
            "50": {"latency_mean_s": 43.7, "answered": 8, "refused": 0, "timed_out": 42},
            "60": {"latency_mean_s": 39.2, "answered": 12, "refused": 10, "timed_out": 38},
        },
        "backpressure": {
            "100 at once": {
                "answered": 0,
                "refused": 50,
                "timed_out": 50,
                "refusal_mean_s": 0.87,
            }
        },
        "streaming": {
            "stream, alone": {"latency_mean_s": 3.03, "first_token_mean_s": 0.85},
            "whole, alone": {"latency_mean_s": 2.85},
            "stream, 5 clients": {"latency_mean_s": 8.35, "first_token_mean_s": 5.99},
            "whole, 5 clients": {"latency_mean_s": 12.29},
        },
        "first-token": {
            "alone": {
                "first_token_mean_s": 0.87,
                "first_token_min_s": 0.53,
                "first_token_max_s": 0.93,
            },
            "5 clients": {
                "first_token_mean_s": 9.02,
                "first_token_min_s": 1.08,
                "first_token_max_s": 10.83,
            },
        },
        "prompts": {
            "short": {"latency_mean_s": 2.0},
            "50 tokens": {"latency_mean_s": 4.9},
            "5 turns": {"latency_mean_s": 5.9},
            "10 turns": {"latency_mean_s": 7.8},
        },
        "sustained": {"5 clients, 120 s": {"answered": 56, "tokens": 990, "tokens_per_s": 7.6}},
    }
)


def figures_of(experiment: str, case: str) -> Figures:
    """What it measured there; empty where it tells nothing."""
    return FIGURES.get(experiment, {}).get(case, {})
