// A model's graph, drawn beside the table of its layers: a layer's row has its dot, and every result
// that is still to be read goes down in a lane of its own.
import { shape } from "./chart.js";

const DOT = 18; // pixels from a row's upper edge, at the height of its first line
const ROOM = 140, WIDEST = 14; // of all lanes; of one

// layers: [{ from: [index, -1 for the model's inputs] }]. For each row { at: the lane of its dot, read:
// the lanes that end in it or send it a copy, pass: those that go on, goes: whether anybody reads it }.
export function lanesOf(layers) {
    const last = new Map(); // who reads a result last
    layers.forEach((layer, i) => layer.from.forEach((v) => last.set(v, i)));
    const open = new Map(); // result -> lane
    if (last.has(-1))
        open.set(-1, 0);
    return layers.map((layer, i) => {
        const read = layer.from.map((v) => open.get(v));
        const ended = layer.from.filter((v) => last.get(v) === i).map((v) => open.get(v));
        layer.from.filter((v) => last.get(v) === i).forEach((v) => open.delete(v));
        const pass = [...open.values()];
        let at = ended.length > 0 ? Math.min(...ended) : 0;
        while (ended.length === 0 && pass.includes(at))
            at++;
        if (last.has(i))
            open.set(i, at);
        return { at, read, pass, goes: last.has(i) };
    });
}

// rows: of lanesOf(). label(i): what row i's picture says to those who do not see it.
export function graphCells(rows, label) {
    const n = 1 + Math.max(0, ...rows.flatMap((r) => [r.at, ...r.read, ...r.pass]));
    const step = Math.min(WIDEST, ROOM / n), width = n * step + 6;
    const x = (lane) => (lane + 0.5) * step + 3;
    return rows.map((row, i) => {
        const svg = shape("svg", { role: "img" });
        svg.append(shape("title", {}, label(i)));
        const down = (lane, from) => svg.append(shape("line", {
            class: `line l${lane % 6}`, x1: x(lane), x2: x(lane), y1: from, y2: "100%" }));
        for (const lane of row.pass)
            down(lane, 0);
        if (row.goes)
            down(row.at, DOT);
        for (const lane of row.read)
            svg.append(shape("path", { class: `line l${lane % 6}`, d: lane === row.at
                ? `M${x(lane)} 0V${DOT}`
                : `M${x(lane)} 0C${x(lane)} ${DOT} ${x(row.at)} 0 ${x(row.at)} ${DOT}` }));
        svg.append(shape("circle", { class: `f${row.at % 6}`, cx: x(row.at), cy: DOT,
                                     r: Math.min(4.5, step / 2) }));
        const td = document.createElement("td");
        td.className = "graph";
        td.style.minWidth = `${width}px`;
        svg.style.width = `${width}px`;
        td.append(svg);
        return td;
    });
}
