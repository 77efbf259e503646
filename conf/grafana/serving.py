"""Rows about what callers get: how soon, how much, and who is sent away."""

from typing import Final

from panels import GREEN, RED, YELLOW, heatmap, quantiles, query, rate, stat, timeseries

GLANCE: Final = [
    stat(
        "Ready",
        "Whether a request that comes now has a chance, as /ready says.",
        "none",
        [query("min(gateway_ready{FROM})", "ready")],
        steps=((None, RED), (1, GREEN)),
        words={"0": "no", "1": "yes"},
    ),
    stat(
        "Running and waiting",
        "Accepted requests that have not ended.",
        "short",
        [query("sum(active_requests{FROM})", "requests")],
    ),
    stat(
        "Wait of a newcomer",
        "What a request for the default model would wait if it came now.",
        "s",
        [query("max(gateway_expected_wait_seconds{FROM})", "wait")],
        steps=((None, GREEN), (10, YELLOW), (60, RED)),
    ),
    stat(
        "Answered, last hour",
        "Accepted requests with a whole answer, of all that were not broken off by their callers.",
        "percentunit",
        [
            query(
                "sum(increase(gateway_requests_completed_total{FROM}[1h])) / "
                "(sum(increase(gateway_requests_completed_total{FROM}[1h])) + "
                "sum(increase(gateway_requests_failed_total{FROM}[1h])) > 0)",
                "answered",
            )
        ],
        steps=((None, RED), (0.95, YELLOW), (0.99, GREEN)),
        decimals=2,
    ),
    stat(
        "Promises broken, last day",
        "Accepted requests that were not answered in time. There should be none.",
        "short",
        [query("sum(increase(gateway_promises_broken_total{FROM}[1d]))", "broken")],
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    ),
    stat(
        "Running since",
        "Age of the process; the version is in gateway_build_info.",
        "s",
        [query("min(time() - process_start_time_seconds{FROM})", "age")],
    ),
]

LATENCY: Final = [
    timeseries(
        "Latency",
        "From arrival to the end of the answer, of accepted requests that were answered.",
        "s",
        quantiles("request_latency_seconds", 0.5, 0.95, 0.99),
    ),
    timeseries(
        "Time to first token",
        "From arrival to the first token, of streams: how long somebody looks at nothing.",
        "s",
        quantiles("time_to_first_token_seconds", 0.5, 0.95, 0.99),
    ),
    timeseries(
        "Wait for a slot",
        "From arrival to a slot.",
        "s",
        quantiles("queue_wait_seconds", 0.5, 0.95, 0.99),
    ),
    timeseries(
        "Where the time goes",
        "The average request: its wait for a slot, and what the engine took.",
        "s",
        [
            query(
                "sum(rate(queue_wait_seconds_sum{FROM}[$__rate_interval])) / "
                "sum(rate(queue_wait_seconds_count{FROM}[$__rate_interval]))",
                "waits",
            ),
            query(
                "sum(rate(backend_latency_seconds_sum{FROM}[$__rate_interval])) / "
                "sum(rate(backend_latency_seconds_count{FROM}[$__rate_interval]))",
                "engine",
            ),
        ],
        stacked=True,
    ),
    heatmap(
        "Spread of latencies",
        "How many requests took how long: two bands are two kinds of requests.",
        "s",
        "request_latency_seconds",
        width=16,
    ),
]

THROUGHPUT: Final = [
    timeseries(
        "Tokens written",
        "Tokens of answers a second, of all requests together.",
        "tokens/s",
        [rate("tokens_generated_total", "tokens")],
    ),
    timeseries(
        "Speed of an answer",
        "Tokens a second of one answer. Reading speed is about 5; p10 is who has to wait.",
        "tokens/s",
        quantiles("tokens_per_second", 0.1, 0.5, 0.9),
    ),
    timeseries(
        "Answers by status",
        "Parsed requests by HTTP status; 499 is a caller who left.",
        "reqps",
        [rate("requests_total", "{{status}}", by="status")],
        stacked=True,
    ),
    timeseries(
        "Answers by model",
        "Parsed requests by model.",
        "reqps",
        [rate("requests_total", "{{model}}", by="model")],
        stacked=True,
    ),
    timeseries(
        "HTTP requests by route",
        "Of all kinds, those for health and metrics too.",
        "reqps",
        [
            query(
                "sum by (route) (rate(gateway_requests_total{FROM}[$__rate_interval])) > 0",
                "{{route}}",
            )
        ],
    ),
    timeseries(
        "Tokens read",
        "Tokens of prompts a second: evaluated, or found in a slot and not read again.",
        "tokens/s",
        [rate("gateway_prompt_tokens_total", "{{source}}", by="source")],
        stacked=True,
    ),
]

QUEUE: Final = [
    timeseries(
        "Queue by class",
        "Requests that wait for a slot, and how many may.",
        "short",
        [
            query("sum by (priority) (gateway_requests_waiting{FROM})", "{{priority}}"),
            query("sum(gateway_request_queue_max{FROM})", "bound"),
        ],
    ),
    timeseries(
        "Slots",
        "Busy slots and all slots of each engine; how many there are is found out if not set.",
        "short",
        [
            query("sum by (upstream) (gateway_slots_busy{FROM})", "{{upstream}} busy"),
            query("sum by (upstream) (gateway_slots{FROM})", "{{upstream}} slots"),
        ],
    ),
    timeseries(
        "Use of the slots by class",
        "Slots in use on average, by class, and the part of it for answers that nobody got.",
        "short",
        [
            rate("gateway_slot_seconds_total", "{{priority}}", by="priority"),
            rate("gateway_wasted_slot_seconds_total", "wasted"),
        ],
    ),
]

REFUSALS: Final = [
    timeseries(
        "Refusals by reason",
        "Requests refused before any work was done.",
        "reqps",
        [
            query(
                "sum by (reason) (rate(gateway_rejected_total{FROM}[$__rate_interval])) > 0",
                "{{reason}}",
            )
        ],
        stacked=True,
    ),
    timeseries(
        "Errors by type",
        "Requests that got no whole answer.",
        "reqps",
        [
            query(
                "sum by (type) (rate(inference_errors_total{FROM}[$__rate_interval])) > 0",
                "{{type}}",
            )
        ],
        stacked=True,
    ),
    timeseries(
        "Part refused for lack of room or time",
        "Of all that came and could have been served. How overload is meant to look.",
        "percentunit",
        [query("job_instance:gateway_overload_refusals:ratio_rate5m{FROM}", "{{instance}}")],
        most=1,
    ),
    timeseries(
        "Places of refused callers",
        "Held until they come back as told; lost if nobody came.",
        "short",
        [
            query("sum(gateway_places_held{FROM})", "held"),
            query(
                "sum(increase(gateway_places_returned_total{FROM}[$__rate_interval]))", "returned"
            ),
            query("sum(increase(gateway_places_lost_total{FROM}[$__rate_interval]))", "lost"),
        ],
    ),
    timeseries(
        "Callers who left",
        "Before their answer was whole, by how far it was.",
        "reqps",
        [rate("gateway_client_gone_total", "{{phase}}", by="phase")],
    ),
    timeseries(
        "Cut, taken up again, broken",
        "Answers cut at their deadline, retries that got an earlier answer, promises broken.",
        "reqps",
        [
            rate("gateway_truncated_total", "cut"),
            rate("gateway_rejoined_total", "rejoined"),
            rate("gateway_promises_broken_total", "not in time"),
        ],
    ),
]
