// openapi.json, readable: every operation with its parameters, body, answers and a curl line.
import { byId, make } from "./dom.js";

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

function properties(schema) {
    const s = follow(schema);
    const members = Object.entries(s?.properties ?? {});
    if (members.length === 0)
        return null;
    return make("table", {}, make("tbody", {}, ...members.map(([name, p]) => make(
        "tr", {}, make("td", {}, make("code", {}, name), s.required?.includes(name) ? "" : " (may be missing)"),
        make("td", {}, typeOf(p)), make("td", {}, p.description ?? follow(p)?.description ?? "")))));
}

function curlOf(method, path, operation) {
    const body = operation.requestBody ? Object.keys(operation.requestBody.content)[0] : null;
    let line = "curl";
    if (method === "post")
        line += body === null ? " -X POST" : body.startsWith("image/") || body === "*/*"
            ? " --data-binary @cat.jpg" : " -d @request.json";
    return `${line} ${new URL(path.slice(1).replace(/\{.*?\}/g, (m) => m.slice(1, -1).toUpperCase()),
                              location.href)}`;
}

function bodies(content) {
    return Object.entries(content ?? {}).map(([type, { schema }]) => make(
        "div", {}, make("p", { class: "quiet" }, `${type}: ${typeOf(schema)}`), properties(schema)));
}

function show(path, method, operation) {
    const parameters = (operation.parameters ?? []).map(follow);
    const section = make("section", { class: "card operation" },
        make("h3", {}, make("span", { class: "method" }, method.toUpperCase()), path),
        make("p", {}, operation.summary), operation.description ? make("p", {}, operation.description) : null);
    const details = make("details", {}, make("summary", {}, "Parameters, answers and errors"));
    if (parameters.length > 0)
        details.append(make("h4", {}, "Parameters"), make("table", {}, make("tbody", {}, ...parameters.map((p) =>
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
    section.append(details, make("pre", {}, make("code", {}, curlOf(method, path, operation))));
    return section;
}

async function start() {
    spec = await (await fetch("openapi.json")).json();
    byId("title").textContent = `${spec.info.title} ${spec.info.version}`;
    byId("about").textContent = spec.info.description;
    for (const tag of spec.tags) {
        byId("operations").append(make("h2", {}, tag.name), make("p", { class: "quiet" }, tag.description));
        for (const [path, item] of Object.entries(spec.paths))
            for (const method of ["get", "post"])
                if (item[method]?.tags.includes(tag.name))
                    byId("operations").append(show(path, method, item[method]));
    }
}

start();
