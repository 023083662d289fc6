#!/usr/bin/env python3
"""Prints the dashboard, dashboards/convd.json: each panel is a title, a unit, and its queries."""

import json

RATE = "[$__rate_interval]"
BY = 'model=~"$model"'


def quantile(q, metric):
    return f"histogram_quantile({q}, sum by (le) (rate(convd_{metric}_bucket{{{BY}}}{RATE})))"


def mean(metric):
    return f"sum(rate(convd_{metric}_sum{{{BY}}}{RATE})) / sum(rate(convd_{metric}_count{{{BY}}}{RATE}))"


def rate(metric, by, more=""):
    return f"sum by ({by}) (rate({metric}{{{more}}}{RATE}))"


PANELS = [
    ("Ready", "none", [("convd_ready", "{{instance}}")]),
    ("Requests", "reqps", [(rate("convd_requests_total", "model", BY), "{{model}}")]),
    ("Answers by status", "reqps", [(rate("convd_http_responses_total", "code"), "{{code}}")]),
    ("Time of a request", "s", [(quantile(q, "request_duration_seconds"), f"p{q * 100:g}")
                                for q in (0.5, 0.95, 0.99)]),
    ("Where it goes, on average", "s", [(mean("decode_duration_seconds"), "decode"),
                                        (mean("queue_duration_seconds"), "queue"),
                                        (mean("compute_duration_seconds"), "compute")]),
    ("Time in the queue", "s", [(quantile(q, "queue_duration_seconds"), f"p{q * 100:g}")
                                for q in (0.5, 0.95, 0.99)]),
    ("Requests that wait", "short", [(f"convd_queue_length{{{BY}}}", "{{model}}")]),
    ("Batch size, on average", "short", [(mean("batch_size"), "samples")]),
    ("Samples and executions", "ops", [(rate("convd_samples_total", "model", BY), "samples {{model}}"),
                                       (rate("convd_executions_total", "model", BY), "runs {{model}}")]),
    ("Connections and requests in flight", "short", [("convd_connections", "connections"),
                                                     ("convd_requests_in_flight", "in flight")]),
    ("Memory", "bytes", [("process_resident_memory_bytes{job=\"convd\"}", "resident"),
                         ("convd_body_bytes", "bodies"), ("convd_answer_bytes", "answers"),
                         (f"convd_model_bytes{{{BY}}}", "{{model}}")]),
    ("Processor", "short", [(rate("process_cpu_seconds_total", "instance", 'job="convd"'), "cores")]),
]


def panel(number, title, unit, queries):
    return {
        "id": number + 1, "type": "timeseries", "title": title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"h": 8, "w": 8, "x": number % 3 * 8, "y": number // 3 * 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend}
                    for i, (expr, legend) in enumerate(queries)],
    }


def dashboard():
    return {
        "uid": "convd", "title": "convd", "schemaVersion": 39, "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "templating": {"list": [{
            "name": "model", "type": "query", "includeAll": True, "multi": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "query": "label_values(convd_model_ready, model)"}]},
        "panels": [panel(i, *p) for i, p in enumerate(PANELS)],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
