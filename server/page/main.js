// The frame: which view is shown, which model is meant, whether the server answers.
import { get, onState, useKey } from "./api.js";
import { byId, make } from "./dom.js";
import * as live from "./live.js";
import * as model from "./model.js";
import * as repository from "./repository.js";
import * as trying from "./try.js";

// Each view has show(model), called when it comes up and when the model changes, and hide().
const views = { try: trying, live, model, repository };
const picker = byId("model");
let current = null, listed = false; // the view that is shown; whether the models are known

const chosen = () => picker.value;

function parseHash() {
    const [, view, name] = location.hash.split("/");
    return { view: view in views ? view : "try", name: name ? decodeURIComponent(name) : null };
}

function show() {
    const { view, name } = parseHash();
    if (name && [...picker.options].some((o) => o.value === name))
        picker.value = name;
    for (const element of document.querySelectorAll(".model-name"))
        element.textContent = element.title = chosen();
    byId("no-models").hidden = !listed || chosen() !== "" || view === "repository";
    if (current !== view) {
        if (current)
            views[current].hide();
        for (const each of Object.keys(views))
            byId(`view-${each}`).hidden = each !== view;
        for (const link of document.querySelectorAll("nav a")) {
            if (link.getAttribute("href") === `#/${view}`)
                link.setAttribute("aria-current", "page");
            else
                link.removeAttribute("aria-current");
        }
        current = view;
        document.title = `convd: ${view}`;
    }
    views[view].show(chosen());
}

// Reads which models there are; the choice stays if it can.
async function refreshModels() {
    const before = chosen();
    const { models } = await get("v2/models");
    const first = !listed;
    listed = true;
    const same = models.length === picker.options.length &&
        models.every((name, i) => picker.options[i].value === name);
    if (!same) {
        picker.replaceChildren(...models.map((name) => make("option", { value: name }, name)));
        if (models.includes(before))
            picker.value = before;
        picker.disabled = models.length === 0;
    }
    if (!same || first)
        show();
}

picker.addEventListener("change", () => {
    location.hash = `#/${current}/${encodeURIComponent(chosen())}`;
});
window.addEventListener("hashchange", show);
document.addEventListener("models-changed", () => refreshModels().then(show).catch(() => {}));

const trouble = byId("trouble"), keyForm = byId("key");
let down = false;

onState(({ kind, message }) => {
    keyForm.hidden = kind !== "key";
    trouble.hidden = kind === "up";
    if (kind === "key") {
        trouble.textContent = message;
    } else if (kind === "down") {
        trouble.textContent = `${message} Nothing is lost: this page goes on when it answers again.`;
        down = true;
    } else if (down) {
        down = false;
        document.dispatchEvent(new Event("models-changed")); // others may be served by now
    }
});

keyForm.addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key-text").value);
    start().catch(() => {});
});

async function start() {
    await refreshModels();
    const server = await get("v2");
    byId("about").textContent = `${server.name} ${server.version}`;
}

// Notices a server that comes back, and models that others load.
setInterval(() => {
    if (!document.hidden)
        refreshModels().catch(() => {});
}, 2500);

start().catch(() => show());
