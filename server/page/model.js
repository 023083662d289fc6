// One model from inside: its layers and what went into each, its batch norms, its memory, and what
// each layer takes.
import { get, modelPath, request } from "./api.js";
import { histogram } from "./chart.js";
import { breakable, byId, make, meter, percent, quantity, short } from "./dom.js";
import { graphCells, lanesOf } from "./graph.js";

let name = "", report = null, wanted = 0;

function row(cells, head) {
    return make("tr", {}, ...cells.map((c) => c instanceof Node && /^T[DH]$/.test(c.nodeName) ? c
        : make(head ? "th" : "td", {}, c)));
}

const right = (...content) => make("td", { class: "n" }, ...content);
const shapeOf = (shape) => `[${shape.map((d, i) => d >= 0 ? d : i === 0 ? "N" : "?").join(", ")}]`;

function showFacts() {
    const m = report.memory;
    const facts = [
        ["Producer", `${report.producer || "not said"}, opset ${report.opset}`],
        ["Nodes in the file", `${report.nodes}, ${report.layers.length} layers left`],
        ["Parameters", quantity(report.parameters, "")],
        ["Work of one image", quantity(report.flops, "FLOP")],
        ["Weights, as packed", quantity(m.weights, "B")],
        ["Activations of one image", quantity(m.activations_one, "B")],
        ["Largest batch", report.max_batch || `fixed: ${report.batch_note ?? ""}`],
        ["Inputs", report.inputs.map((i) => `${i.name} ${shapeOf(i.shape)}`).join(", ")],
        ["Outputs", report.outputs.map((o) => `${o.name} ${shapeOf(o.shape)}`).join(", ")],
        ["Kernels", report.isa],
        ...(report.pictures ? [["Pictures become", report.pictures]] : []),
    ];
    byId("facts").replaceChildren(...facts.map(([term, value]) =>
        make("div", term === "Pictures become" ? { class: "wide" } : {}, make("dt", {}, term),
             make("dd", {}, String(value)))));
    const batch = byId("profile-batch");
    batch.max = Math.max(report.max_batch, 1);
    batch.value = Math.min(Number(batch.value) || 1, batch.max);
}

// What it is, and in small letters what it is called.
const named = (what, called) => make("td", {}, what,
    make("span", { class: "quiet" }, ...breakable(called)));

// Batch norms that went into its weights, then what it computes on its results.
function fusedInto(layer) {
    const folded = report.batchnorms.filter((b) => b.into === layer.name && b.fate.startsWith("folded"));
    const steps = layer.fused.split(", ").filter((t) => t !== "");
    return make("td", {}, ...folded.map((b) =>
        make("span", { class: "chip in-weights", title: b.name }, "norm, in weights")),
                ...steps.map((t) => make("span", { class: "chip" }, t)));
}

// What the picture of the graph says of a layer.
function reads(i) {
    const of = report.layers[i].from.map((v) => v < 0 ? "the input" : `${v} ${report.layers[v].op}`);
    return of.length > 0 ? `${i} reads ${of.join(" and ")}` : `${i} reads nothing`;
}

// While the pointer is on a layer, those that it reads and those that read it are marked, too.
function markNeighbours(event) {
    const at = event.type === "pointerleave" ? null : event.target.closest("#layers tbody tr");
    const i = at ? at.sectionRowIndex : -1;
    [...byId("layers").tBodies[0].rows].forEach((tr, k) => tr.classList.toggle(
        "near", i >= 0 && (report.layers[i].from.includes(k) || report.layers[k].from.includes(i))));
}

// times: [{ seconds, share, gflops }] of each layer, or null while nothing was measured.
function showLayers(times) {
    const most = Math.max(...report.layers.map((l) => l.flops), 1);
    const slowest = times ? Math.max(...times.map((t) => t.share)) : 0;
    const titles = ["Graph", "#", "Layer", "Fused into it", "Algorithm", "Output", "MFLOP", "Weights"];
    const table = byId("layers");
    const head = titles.map((t, i) => make("th", i === 1 || i > 5 ? { class: "n" } : {}, t));
    const graph = graphCells(lanesOf(report.layers), reads);
    byId("no-layers").hidden = report.layers.length > 0;
    if (report.layers.length === 0) {
        table.replaceChildren();
        return;
    }
    if (times)
        head.push(make("th", { class: "n" }, "Time"), make("th", { class: "n" }, "GFLOP/s"));
    table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make(
        "tbody", { onpointerover: markNeighbours, onpointerleave: markNeighbours },
        ...report.layers.map((l, i) => {
            const cells = [
                graph[i], right(String(i)), named(l.op, l.name), fusedInto(l), l.algorithm,
                make("td", { class: "shape" }, shapeOf(l.shape),
                     make("small", {}, quantity(l.output_bytes, "B"))),
                l.flops > 0 ? right(short(l.flops / 1e6), meter(l.flops / most)) : "",
                right(l.weight_bytes ? quantity(l.weight_bytes, "B") : ""),
            ];
            if (times)
                cells.push(right(`${short(times[i].seconds * 1e3)} ms, ${percent(times[i].share)}`,
                                 meter(times[i].share / slowest)),
                           right(times[i].gflops > 0 ? times[i].gflops.toFixed(1) : ""));
            const tr = row(cells);
            tr.id = `layer-${i}`;
            return tr;
        })));
}

const FINDINGS = [["non_finite", "not finite"], ["negative_variance", "variance below 0"],
                  ["tiny_variance", "variance below epsilon"], ["dead", "dead"],
                  ["exploding", "exploding"]];

function healthOf(b) {
    const found = FINDINGS.filter(([key]) => b[key] > 0).map(([key, text]) => `${b[key]} ${text}`);
    return found.length > 0 ? make("td", { class: "bad" }, found.join(", "))
        : make("td", { class: "good" }, "sane");
}

function graph(b, key, color, label) {
    return make("td", {}, make("figure", { class: "histogram" },
        histogram(b[key], color, `${label} of ${b.name}`),
        make("figcaption", {}, `${short(b[key].min)} … ${short(b[key].max)}`)));
}

// What became of it, and where it went as a link to that layer.
function fateOf(b) {
    const i = report.layers.findIndex((l) => l.name === b.into);
    const where = b.into && i >= 0 ? make("a", { href: `#layer-${i}`, onclick: (event) => {
        event.preventDefault();
        const row = byId(`layer-${i}`);
        row.scrollIntoView({ block: "center" });
        row.classList.remove("found");
        void row.offsetWidth; // the animation begins anew
        row.classList.add("found");
    } }, ...breakable(b.into)) : b.into ?? b.why ?? "";
    return make("td", {}, b.fate, make("span", { class: "quiet" }, where));
}

function showBatchnorms() {
    const list = report.batchnorms;
    const fates = new Map();
    for (const b of list)
        fates.set(b.fate, (fates.get(b.fate) ?? 0) + 1);
    byId("batchnorm-summary").textContent = list.length === 0 ? "This model has none." :
        `${list.length}: ${[...fates].map(([fate, n]) => `${n} ${fate}`).join(", ")}.`;
    byId("batchnorms").replaceChildren(...(list.length === 0 ? [] : [
        make("thead", {}, row(["Where it stood", make("th", { class: "n" }, "Channels"),
                               "What became of it", "Running mean", "Running variance",
                               "Folded scale", "Statistics"], true)),
        make("tbody", {}, ...list.map((b) => row([
            named(b.placement.replaceAll("->", "→").replaceAll("BatchNormalization", "norm"), b.name),
            right(String(b.channels)), fateOf(b), graph(b, "mean", 0, "Running mean"),
            graph(b, "variance", 1, "Running variance"),
            graph(b, "folded_scale", 2, "Folded scale"), healthOf(b)])))]));
}

async function load() {
    const mine = ++wanted;
    try {
        const answer = await get(`${modelPath(name)}/report`);
        if (mine !== wanted)
            return;
        report = answer;
        byId("profile-note").textContent = "";
        showFacts();
        showBatchnorms();
        showLayers(null);
    } catch (error) {
        byId("batchnorm-summary").textContent = error.message;
    }
}

for (const button of document.querySelectorAll(".jump button"))
    button.addEventListener("click", () => {
        const heading = byId(button.dataset.to);
        heading.scrollIntoView();
        heading.focus({ preventScroll: true });
    });

byId("profile").addEventListener("click", async () => {
    const note = byId("profile-note"), button = byId("profile");
    note.textContent = "measuring …";
    button.disabled = true;
    try {
        const batch = Number(byId("profile-batch").value) || 1;
        const path = `${modelPath(name)}/profile?batch=${batch}`;
        const answer = await (await request(path, { method: "POST" })).json();
        note.textContent = `${short(answer.seconds * 1e3)} ms a run, mean of ${answer.runs}; batch ` +
            `${answer.batch}, ${answer.threads} thread${answer.threads === 1 ? "" : "s"}, batch norms ` +
            answer.batchnorm;
        showLayers(answer.layers);
    } catch (error) {
        note.textContent = error.message;
    }
    button.disabled = false;
});

// The same name may stand for another file now.
document.addEventListener("models-changed", () => {
    report = null;
});

export function show(model) {
    byId("view-model").hidden = !model;
    if (!model || (model === name && report))
        return;
    name = model;
    report = null;
    load();
}

export function hide() {}
