// Charts as SVG: lines over time, bars, histograms. Colours come from the style sheet by number, so
// that light and dark need nothing here.
import { short } from "./dom.js";

const space = "http://www.w3.org/2000/svg";

export function shape(name, attributes, text) {
    const e = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes))
        e.setAttribute(key, value);
    if (text !== undefined)
        e.textContent = text;
    return e;
}

function picture(width, height, label) {
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.append(shape("title", {}, label));
    return svg;
}

// The next of 1, 2, 5, 10, 20, 50 ... that is not below value; of whole things the next of 2, 4,
// 10, 20, 40, 100 ..., whose half is whole, too.
function ceiling(value, whole) {
    if (!(value > 0))
        return whole ? 2 : 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return (whole ? [2, 4, 10, 20] : [1, 2, 5, 10]).map((f) => f * power)
        .find((top) => top >= value * 0.999);
}

// A round number without the zeros that short() would put behind it.
const tick = (value) => value < 1e5 ? String(Number(value.toPrecision(3))) : short(value);

const WIDTH = 400, HEIGHT = 150, LEFT = 40, RIGHT = 8, TOP = 8, BOTTOM = 20;

function axes(svg, top, below) {
    for (const part of [0, 0.5, 1]) {
        const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - part);
        svg.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }));
        svg.append(shape("text", { x: LEFT - 5, y: y + 4, "text-anchor": "end" }, tick(top * part)));
    }
    for (const [x, anchor, text] of below)
        svg.append(shape("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, text));
}

// Says in the middle of an empty chart why it is empty.
function remark(svg, text) {
    svg.append(shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT / 4 + TOP,
                               "text-anchor": "middle" }, text));
}

const GAP = 2.5; // seconds without a reading that break a line

// series: [[age in seconds, number or null], oldest first]. empty: what to say where no number is
// above 0. whole: they count things.
export function lines(series, { seconds, label, empty, whole = false }) {
    const svg = picture(WIDTH, HEIGHT, label);
    const most = Math.max(0, ...series.flat().map(([, v]) => v).filter(Number.isFinite));
    const top = ceiling(most, whole);
    axes(svg, top, [[LEFT, "start", `${seconds} s ago`], [WIDTH - RIGHT, "end", "now"]]);
    if (most === 0)
        remark(svg, empty);
    series.forEach((points, k) => {
        // Whether the line goes on from the i-th point to the one after it.
        const goes = (i) => i >= 0 && i + 1 < points.length && Number.isFinite(points[i][1]) &&
            Number.isFinite(points[i + 1][1]) && points[i][0] - points[i + 1][0] < GAP;
        let d = "";
        points.forEach(([age, v], i) => {
            if (!Number.isFinite(v))
                return;
            const x = WIDTH - RIGHT - (WIDTH - LEFT - RIGHT) * age / seconds;
            const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top);
            // A second alone between seconds of nothing is a line of no length: a dot.
            const alone = !goes(i - 1) && !goes(i);
            d += `${goes(i - 1) ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${alone ? "h0" : ""}`;
        });
        svg.append(shape("path", { class: `line l${k % 6}`, d }));
    });
    return svg;
}

// values: [[name, number of things]], one bar each. empty: what to say where there are none.
export function bars(values, { label, empty }) {
    const svg = picture(WIDTH, HEIGHT, label);
    const top = ceiling(Math.max(0, ...values.map(([, v]) => v)), true);
    const step = (WIDTH - LEFT - RIGHT) / Math.max(values.length, 1);
    const every = Math.ceil(values.length / 12), wide = Math.min(step * 0.7, 40);
    axes(svg, top, values.map(([name], i) => [LEFT + (i + 0.5) * step, "middle",
                                             i % every === 0 ? name : ""]));
    if (values.length === 0)
        remark(svg, empty);
    values.forEach(([, v], i) => {
        const height = (HEIGHT - TOP - BOTTOM) * v / top;
        svg.append(shape("rect", { class: "f0", x: LEFT + (i + 0.5) * step - wide / 2, width: wide,
                                   y: HEIGHT - BOTTOM - height, height, rx: 2 }));
    });
    return svg;
}

// h: { min, max, counts } as the server's report has it.
export function histogram(h, color, label) {
    const width = 120, height = 36;
    const svg = picture(width, height, `${label}: from ${short(h.min)} to ${short(h.max)}`);
    const top = Math.max(1, ...h.counts), step = width / h.counts.length;
    svg.append(shape("line", { class: "grid", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }));
    h.counts.forEach((count, i) => {
        if (count === 0)
            return;
        const tall = Math.max(1, (height - 2) * count / top);
        svg.append(shape("rect", { class: `f${color}`, x: (i * step + 0.4).toFixed(2),
                                   width: (step - 0.8).toFixed(2), y: (height - 1 - tall).toFixed(2),
                                   height: tall.toFixed(2) }));
    });
    return svg;
}
