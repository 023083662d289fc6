// Small helpers to make elements and to write numbers.

// make("p", { class: "quiet" }, "text", element ...). A property that is no attribute begins with
// a dot, a listener with "on".
export function make(name, attributes = {}, ...children) {
    const e = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on"))
            e.addEventListener(key.slice(2), value);
        else if (key.startsWith("."))
            e[key.slice(1)] = value;
        else
            e.setAttribute(key, value);
    }
    e.append(...children.filter((c) => c !== null && c !== undefined));
    return e;
}

// A name like /stem/conv/Conv, which may go over lines between its parts.
export const breakable = (name) => name.split(/(?<=[/._])/).flatMap((part) => [part, make("wbr")]);

export const byId = (id) => document.getElementById(id);

// A bar of a share from 0 to 1. What it shows is also said in words beside it.
export function meter(share) {
    const bar = make("i");
    bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return make("div", { class: "meter", "aria-hidden": "true" }, bar);
}

// Three digits and a unit: 1.53 MB.
export function quantity(value, unit) {
    const prefixes = ["", "k", "M", "G", "T"];
    let i = 0;
    while (Math.abs(value) >= 1000 && i < prefixes.length - 1) {
        value /= 1000;
        i++;
    }
    const text = i === 0 && Number.isInteger(value) ? String(value) : value.toPrecision(3);
    return `${text} ${prefixes[i]}${unit}`.trimEnd();
}

export function short(value) {
    if (value === null || value === undefined || !Number.isFinite(value))
        return "–";
    if (value === 0)
        return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3)
        return value.toExponential(1);
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

export const percent = (share) => `${(share * 100).toFixed(1)} %`;
