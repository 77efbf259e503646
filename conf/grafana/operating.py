"""Rows about who calls, and how the process does."""

from typing import Final

from panels import GREEN, RED, quantiles, query, rate, stat, timeline, timeseries

CALLERS: Final = [
    timeseries(
        "Requests by caller",
        "Requests for models by the caller's name, refused ones too.",
        "reqps",
        [rate("gateway_caller_requests_total", "{{caller}}", by="caller")],
        stacked=True,
    ),
    timeseries(
        "Tokens by caller",
        "Read and written a second, as its limits count them.",
        "tokens/s",
        [rate("gateway_caller_tokens_total", "{{caller}}", by="caller")],
        stacked=True,
    ),
    timeseries(
        "Slots by caller",
        "Slots that each has on average: whom the engine works for.",
        "short",
        [rate("gateway_caller_slot_seconds_total", "{{caller}}", by="caller")],
        stacked=True,
    ),
]

PROCESS: Final = [
    timeline(
        "Ready and draining",
        "Ready: takes requests. Draining: takes nothing new, and ends what runs.",
        [
            query("gateway_ready{FROM}", "ready"),
            query("gateway_draining{FROM}", "draining"),
        ],
        words={"0": ("no", "text"), "1": ("yes", GREEN)},
    ),
    stat(
        "Cut off by the last restart",
        "Accepted requests that had not ended within the grace period. Needs a state directory.",
        "short",
        [query("sum(gateway_last_drain_cut_off_requests{FROM})", "requests")],
        steps=((None, GREEN), (1, RED)),
        height=8,
    ),
    stat(
        "Configuration",
        "Whether the last reload was applied; if not, the old one is in force.",
        "none",
        [query("min(gateway_config_last_reload_successful{FROM})", "reload")],
        steps=((None, RED), (1, GREEN)),
        words={"0": "mistakes", "1": "in force"},
        height=8,
    ),
    timeseries(
        "Memory",
        "Of the gateway's own process; engines are others.",
        "bytes",
        [
            query("sum by (instance) (process_resident_memory_bytes{FROM})", "{{instance}}"),
            query("sum(gateway_kept_answers_bytes{FROM})", "answers kept for retries"),
        ],
    ),
    timeseries(
        "Processor",
        "Cores in use by the gateway's own process.",
        "short",
        [rate("process_cpu_seconds_total", "{{instance}}", by="instance")],
    ),
    timeseries(
        "Lateness of the event loop",
        "Every token of every stream passes it: above 0.1 s people see streams stutter.",
        "s",
        quantiles("gateway_loop_lag_seconds", 0.5, 0.99),
    ),
    timeseries(
        "Connections closed by the gateway",
        "And not by the client: slow, idle or too many ones.",
        "cps",
        [rate("gateway_connections_closed_total", "{{reason}}", by="reason")],
    ),
    timeseries(
        "File descriptors and disk",
        "Parts in use: descriptors that are open, and the disk of the state directory.",
        "percentunit",
        [
            query("max(process_open_fds{FROM} / process_max_fds{FROM})", "descriptors"),
            query(
                "max(1 - gateway_state_free_bytes{FROM} / gateway_state_size_bytes{FROM})", "disk"
            ),
        ],
        most=1,
    ),
    timeseries(
        "Lost",
        "Log lines and traces that nobody took in time, what could not be stored, series that were"
        " counted as others.",
        "short",
        [
            query(
                "sum(increase(gateway_log_lines_dropped_total{FROM}[$__rate_interval]))",
                "log lines",
            ),
            query(
                "sum(increase(gateway_storage_errors_total{FROM}[$__rate_interval]))", "not stored"
            ),
            query("sum(increase(gateway_traces_dropped_total{FROM}[$__rate_interval]))", "traces"),
            query("sum(increase(gateway_series_refused_total{FROM}[$__rate_interval]))", "series"),
        ],
    ),
]
