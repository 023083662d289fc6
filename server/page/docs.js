// openapi.json, readable: every operation with its parameters, body, answers and a curl line.
import { get } from "./api.js";
import { breakable, byId, make } from "./dom.js";

let spec = null;

// What a "$ref" points to, or the thing itself.
function follow(thing) {
    if (!thing?.$ref)
        return thing;
    return thing.$ref.slice(2).split("/").reduce((at, key) => at[key], spec);
}

const nameOf = (schema) => schema?.$ref?.split("/").at(-1);

// A type in a few words: "array of string", "integer 1 to 1000", "one of a, b".
function typeOf(schema) {
    if (!schema)
        return "";
    if (schema.$ref)
        return nameOf(schema);
    if (schema.const !== undefined)
        return JSON.stringify(schema.const);
    if (schema.enum)
        return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
    if (schema.oneOf || schema.anyOf)
        return (schema.oneOf ?? schema.anyOf).map(typeOf).join(" or ");
    if (schema.type === "array")
        return `array of ${typeOf(schema.items) || "anything"}`;
    const type = [schema.type ?? "anything"].flat().join(" or ");
    const range = schema.minimum !== undefined && schema.maximum !== undefined
        ? ` ${schema.minimum} to ${schema.maximum}` : "";
    return type + range;
}

// A table that moves by itself where it is wider than a telephone.
const scroll = (body) => make("div", { class: "scroll inner", tabindex: "0", role: "region",
                                       "aria-label": "A table" }, make("table", {}, body));

function properties(schema) {
    const s = follow(schema);
    const members = Object.entries(s?.properties ?? {});
    if (members.length === 0)
        return null;
    return scroll(make("tbody", {}, ...members.map(([name, p]) => make(
        "tr", {}, make("td", {}, make("code", {}, name), s.required?.includes(name) ? "" : " (may be missing)"),
        make("td", {}, typeOf(p)), make("td", {}, p.description ?? follow(p)?.description ?? "")))));
}

// What may stand in place of a path's parameter.
const EXAMPLES = { version: "1", repository: "default", file: "style.css" };

function curlOf(method, path, operation) {
    const content = operation.requestBody?.content ?? {};
    const [type] = Object.keys(content);
    const url = new URL(
        path.slice(1).replace(/\{(.*?)\}/g, (m, name) => EXAMPLES[name] ?? name.toUpperCase()),
        location.href);
    let line = "curl";
    if (type?.startsWith("image/"))
        line += " --data-binary @cat.jpg";
    else if (content[type]?.example !== undefined && operation.requestBody.required)
        line += ` -d '${JSON.stringify(content[type].example)}'`;
    else if (method === "post")
        line += " -X POST";
    return `${line} \\\n    '${decodeURI(url.href)}'`;
}

// The named schemas that a schema is made of, each once, in the order in which they are met.
function madeOf(schema, found = new Map()) {
    const name = nameOf(schema);
    if (!schema || (name && found.has(name)))
        return found;
    const s = follow(schema);
    if (name)
        found.set(name, s);
    for (const part of [...Object.values(s.properties ?? {}), s.items, ...(s.oneOf ?? s.anyOf ?? [])])
        madeOf(part, found);
    return found;
}

function bodies(content) {
    return Object.entries(content ?? {}).map(([type, { schema }]) => {
        const first = nameOf(schema);
        const parts = [...madeOf(schema)].filter(([name]) => name !== first)
            .map(([name, s]) => [name, properties(s)]).filter(([, table]) => table);
        return make("div", {}, make("p", { class: "quiet" }, `${type}: ${typeOf(schema)}`), properties(schema),
                    ...parts.flatMap(([name, table]) => [make("p", { class: "quiet" }, name), table]));
    });
}

// One line, which opens to the rest.
function show(path, method, operation) {
    const parameters = (operation.parameters ?? []).map(follow);
    const details = make("details", { class: "card operation", id: operation.operationId },
        make("summary", {}, make("h3", {}, make("span", { class: `method ${method}` }, method.toUpperCase()),
                                 ...breakable(path)), make("span", { class: "quiet" }, operation.summary)));
    if (operation.description)
        details.append(make("p", {}, operation.description));
    details.append(make("pre", {}, make("code", {}, curlOf(method, path, operation))));
    if (parameters.length > 0)
        details.append(make("h4", {}, "Parameters"), scroll(make("tbody", {}, ...parameters.map((p) =>
            make("tr", {}, make("td", {}, make("code", {}, p.name), p.required ? "" : " (may be missing)"),
                 make("td", {}, p.in), make("td", {}, typeOf(p.schema)), make("td", {}, p.description ?? ""))))));
    if (operation.requestBody)
        details.append(make("h4", {}, "Body"), ...bodies(operation.requestBody.content));
    details.append(make("h4", {}, "Answers"));
    for (const [status, given] of Object.entries(operation.responses)) {
        const response = follow(given);
        details.append(make("p", {}, make("strong", {}, status), ` ${response.description}`),
                       ...(status < 300 ? bodies(response.content) : []));
    }
    return details;
}

// Leaves those operations whose line has all the words.
function filter() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter((w) => w !== "");
    let found = 0;
    for (const group of document.querySelectorAll(".group")) {
        for (const operation of group.querySelectorAll(".operation")) {
            const text = operation.firstChild.textContent.toLowerCase();
            operation.hidden = !words.every((w) => text.includes(w));
            found += operation.hidden ? 0 : 1;
        }
        group.hidden = !group.querySelector(".operation:not([hidden])");
    }
    byId("found").textContent = words.length > 0 ? `${found} found` : "";
}

// #classify opens the operation of that name.
function openNamed() {
    const named = location.hash.length > 1 ? byId(location.hash.slice(1)) : null;
    if (named?.matches(".operation")) {
        named.open = true;
        named.scrollIntoView();
    }
}

async function start() {
    spec = await get("openapi.json");
    byId("title").textContent = `${spec.info.title} ${spec.info.version}`;
    byId("about").textContent = spec.info.description;
    for (const tag of spec.tags) {
        const group = make("section", { class: "group" }, make("h2", {}, tag.name),
                           make("p", { class: "quiet" }, tag.description));
        for (const [path, item] of Object.entries(spec.paths))
            for (const method of ["get", "post"])
                if (item[method]?.tags.includes(tag.name))
                    group.append(show(path, method, item[method]));
        byId("operations").append(group);
    }
    byId("filter").addEventListener("input", filter);
    window.addEventListener("hashchange", openNamed);
    filter(); // a browser may have kept what was typed
    openNamed();
}

// A server that is restarting answers a little later.
function begin() {
    start().catch((error) => {
        byId("about").textContent = error.message;
        if (error.passing)
            setTimeout(begin, 2000);
    });
}

begin();
