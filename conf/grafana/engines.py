"""Rows about engines and models: how well they are used, and how well that is foreseen."""

from typing import Final

from panels import GREEN, RED, quantiles, query, rate, timeline, timeseries

ESTIMATES: Final = [
    timeseries(
        "Estimates of waits",
        "Expected over actual wait for a slot: 1 is right, below it took longer than was said.",
        "none",
        quantiles("gateway_wait_estimate_ratio", 0.1, 0.5, 0.9),
    ),
    timeseries(
        "Estimates of service",
        "Expected over actual time in a slot, of whole answers.",
        "none",
        quantiles("gateway_service_estimate_ratio", 0.1, 0.5, 0.9),
    ),
    timeseries(
        "Prompts found in a slot",
        "Part of the prompts' tokens that the engine did not read again.",
        "percentunit",
        [
            query(
                'sum(rate(gateway_prompt_tokens_total{FROM,source="cached"}[$__rate_interval])) / '
                "sum(rate(gateway_prompt_tokens_total{FROM}[$__rate_interval]))",
                "found",
            )
        ],
        most=1,
    ),
]

MODELS: Final = [
    timeline(
        "Engines",
        "Whether requests go there: its health check answers and requests have not failed.",
        [query("gateway_upstream_up{FROM}", "{{upstream}}")],
        words={"0": ("down", RED), "1": ("up", GREEN)},
    ),
    timeseries(
        "Engine errors by kind",
        "Attempts that an engine broke; another one may have served the request.",
        "reqps",
        [rate("gateway_upstream_errors_total", "{{kind}}", by="kind")],
    ),
    timeseries(
        "Models in memory",
        "As far as engines tell; bytes are those of their files.",
        "short",
        [query("sum by (upstream) (gateway_models_loaded{FROM})", "{{upstream}}")],
    ),
    timeseries(
        "Model changes",
        "Requests whose slot did not have their model, and loads. Each costs all of them seconds.",
        "short",
        [
            query("sum(increase(gateway_model_swaps_total{FROM}[$__rate_interval]))", "changes"),
            query(
                "sum(increase(gateway_model_load_seconds_count{FROM}[$__rate_interval]))", "loads"
            ),
        ],
    ),
    timeseries(
        "Time to load a model",
        "From disk to memory.",
        "s",
        quantiles("gateway_model_load_seconds", 0.5, 0.95),
    ),
    timeseries(
        "Size of the models in memory",
        "Of their files; with contexts they take more.",
        "bytes",
        [query("sum by (upstream) (gateway_models_loaded_bytes{FROM})", "{{upstream}}")],
    ),
]

GEN_AI: Final = [
    timeseries(
        "Requests by operation",
        "OpenTelemetry's names, for dashboards that have engines of several makes on one page.",
        "reqps",
        [
            rate(
                "gen_ai_server_request_duration_seconds_count",
                "{{gen_ai_operation_name}} {{error_type}}",
                by="gen_ai_operation_name, error_type",
            )
        ],
        stacked=True,
        width=6,
    ),
    timeseries(
        "Duration by model",
        "From arrival to the end, of accepted requests without an error.",
        "s",
        quantiles(
            "gen_ai_server_request_duration_seconds",
            0.95,
            by="gen_ai_request_model",
            matchers='FROM,error_type=""',
        ),
        width=6,
    ),
    timeseries(
        "Time per output token by model",
        "Between two tokens of an answer.",
        "s",
        quantiles("gen_ai_server_time_per_output_token_seconds", 0.5, by="gen_ai_request_model"),
        width=6,
    ),
    timeseries(
        "Tokens by model",
        "Read (input) and written (output) a second.",
        "tokens/s",
        [
            rate(
                "gen_ai_client_token_usage_sum",
                "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                by="gen_ai_request_model, gen_ai_token_type",
            )
        ],
        width=6,
    ),
]
