// What the server does now: every second the difference between two readings of its counters.
import { get, request } from "./api.js";
import { bars, lines } from "./chart.js";
import { byId, make, short } from "./dom.js";

const PERIOD = 1000, SPAN = 60; // milliseconds between readings; seconds that a chart shows

let timer = null, before = null;
const history = new Map(); // model -> [{ at, rate, p50, p90, p99, batch, waiting }]

// Of the Prometheus text: { name: [{ labels, value }] } for the names wanted.
function parseMetrics(text, wanted) {
    const found = Object.fromEntries(wanted.map((name) => [name, []]));
    for (const line of text.split("\n")) {
        const m = /^(\w+)\{(.*)\} (\S+)$/.exec(line);
        if (!m || !(m[1] in found))
            continue;
        const labels = {};
        for (const [, key, value] of m[2].matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
            labels[key] = value.replace(/\\(.)/g, "$1");
        found[m[1]].push({ labels, value: Number(m[3]) });
    }
    return found;
}

// { model: { count, ns, buckets: Map(le -> count), ... } } of one moment.
async function read() {
    const [stats, text] = await Promise.all([
        get("v2/models/stats"), request("metrics").then((r) => r.text())]);
    const m = parseMetrics(text, ["convd_request_duration_seconds_bucket", "convd_queue_length"]);
    const models = new Map();
    for (const s of stats.model_stats) {
        const old = models.get(s.name);
        const one = old ?? { requests: 0, failed: 0, images: 0, runs: 0, sizes: new Map(),
                             buckets: new Map(), waiting: 0 };
        one.requests += s.inference_stats.success.count;
        one.failed += s.inference_stats.fail.count;
        one.images += s.inference_count;
        one.runs += s.execution_count;
        for (const b of s.batch_stats)
            one.sizes.set(b.batch_size, (one.sizes.get(b.batch_size) ?? 0) + b.compute_infer.count);
        models.set(s.name, one);
    }
    for (const { labels, value } of m.convd_request_duration_seconds_bucket) {
        const one = models.get(labels.model);
        if (one) {
            const le = labels.le === "+Inf" ? Infinity : Number(labels.le);
            one.buckets.set(le, (one.buckets.get(le) ?? 0) + value);
        }
    }
    for (const { labels, value } of m.convd_queue_length)
        if (models.has(labels.model))
            models.get(labels.model).waiting += value;
    return { at: performance.now(), models };
}

// The latency in ms below which `share` of the requests between two readings were; null without any.
function quantile(now, old, share) {
    const edges = [...now.buckets.keys()].sort((a, b) => a - b);
    const counts = edges.map((le) => now.buckets.get(le) - (old?.buckets.get(le) ?? 0));
    const total = counts.at(-1) ?? 0;
    if (!(total > 0))
        return null;
    const i = counts.findIndex((c) => c >= share * total);
    const low = i > 0 ? edges[i - 1] : 0, under = i > 0 ? counts[i - 1] : 0;
    const high = Number.isFinite(edges[i]) ? edges[i] : low;
    return (low + (high - low) * (share * total - under) / (counts[i] - under)) * 1000;
}

function compare(now, old) {
    const seconds = (now.at - old.at) / 1000;
    for (const name of history.keys())
        if (!now.models.has(name))
            history.delete(name);
    for (const [name, m] of now.models) {
        let o = old.models.get(name);
        if (o && (m.requests < o.requests || m.failed < o.failed))
            o = undefined; /* it was loaded again */
        const runs = m.runs - (o?.runs ?? 0);
        const point = {
            at: now.at,
            /* Those that failed, too: they were requests. */
            rate: (m.requests + m.failed - (o ? o.requests + o.failed : 0)) / seconds,
            p50: quantile(m, o, 0.5), p90: quantile(m, o, 0.9), p99: quantile(m, o, 0.99),
            batch: runs > 0 ? (m.images - (o?.images ?? 0)) / runs : null,
            waiting: m.waiting, failed: m.failed, images: m.images,
        };
        const list = history.get(name) ?? [];
        list.push(point);
        history.set(name, list.filter((p) => now.at - p.at <= SPAN * 1000));
    }
}

function legend(names) {
    return make("p", { class: "legend" }, ...names.map((name, i) => make(
        "span", { class: "part" }, make("i", { class: `key s${i % 6}`, "aria-hidden": "true" }), name)));
}

function card(title, names, chart) {
    return make("div", { class: "card chart" }, make("h2", {}, title), legend(names), chart);
}

const QUIET = "no requests seen", UNANSWERED = "none was answered";

function draw(now, model) {
    // Models that do nothing would only make the charts unreadable.
    const names = [...history.keys()];
    const busy = names.filter((n) => history.get(n).some((p) => p.rate > 0 || p.waiting > 0));
    const idle = names.includes(model) ? [model] : names.slice(0, 1);
    const shown = busy.length > 0 ? busy.slice(0, 6) : idle;
    const of = (name, key) => history.get(name).map((p) => [(now.at - p.at) / 1000, p[key]]);
    const chosen = shown.includes(model) ? model : shown[0];
    if (chosen === undefined)
        return;
    const sizes = [...now.models.get(chosen).sizes].sort((a, b) => a[0] - b[0]);
    byId("charts").replaceChildren(
        card("Requests a second", shown,
             lines(shown.map((n) => of(n, "rate")),
                   { seconds: SPAN, label: "Requests a second, by model", empty: QUIET })),
        card(`Latency of ${chosen}, ms`, ["p50", "p90", "p99"],
             lines(["p50", "p90", "p99"].map((k) => of(chosen, k)), {
                 seconds: SPAN, label: `Latency percentiles of ${chosen} in milliseconds`,
                 empty: history.get(chosen).some((p) => p.rate > 0) ? UNANSWERED : QUIET })),
        card(`Runs of ${chosen} by batch size`, ["since it was loaded"],
             bars(sizes, { label: `Runs of ${chosen} by batch size`, empty: "no run yet" })),
        card("Waiting requests", shown,
             lines(shown.map((n) => of(n, "waiting")), {
                 seconds: SPAN, label: "Waiting requests, by model", empty: "nothing has to wait",
                 whole: true })));
    byId("live-table").tBodies[0].replaceChildren(...names.map((name) => {
        const p = history.get(name).at(-1);
        const cells = [p.rate, p.p50, p.p90, p.p99, p.batch, p.waiting, p.failed, p.images];
        return make("tr", {}, make("td", { class: "called" }, name), ...cells.map((v, i) => make(
            "td", { class: "n" }, i >= 5 ? String(v) : short(v))));
    }));
}

async function tick(model) {
    try {
        const now = await read();
        if (before) {
            compare(now, before);
            draw(now, model);
        }
        before = now;
    } catch {
        before = null; /* the frame says so; counters may begin anew */
    }
}

export function show(model) {
    hide();
    byId("view-live").hidden = !model;
    tick(model);
    timer = setInterval(() => {
        if (!document.hidden)
            tick(model);
    }, PERIOD);
}

export function hide() {
    clearInterval(timer);
    before = null;
}
