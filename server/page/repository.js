// All models that the server knows, and what became of each; load and unload where that is allowed.
import { get, request } from "./api.js";
import { byId, make } from "./dom.js";

const PERIOD = 2000;
let timer = null, allowed = false;
const notes = new Map(); // model -> what its last change came to

async function change(name, what) {
    notes.set(name, `${what}ing …`);
    await refresh();
    try {
        await request(`v2/repository/models/${encodeURIComponent(name)}/${what}`, { method: "POST" });
        notes.delete(name);
    } catch (error) {
        notes.set(name, error.message);
    }
    document.dispatchEvent(new Event("models-changed"));
    refresh();
}

function control(entry) {
    const button = (what) => make("button", {
        type: "button", ".disabled": !allowed, "aria-label": `${what} ${entry.name}`,
        onclick: () => change(entry.name, what === "Unload" ? "unload" : "load"),
    }, what);
    return make("td", {}, make("span", { class: "buttons" },
        entry.state === "READY" ? button("Unload") : null,
        button(entry.state === "READY" ? "Reload" : "Load")));
}

// That somebody unloaded it is no trouble.
function colourOf({ state, reason }) {
    return state === "READY" ? "good" : !state || reason === "unloaded" ? "" : "bad";
}

async function refresh() {
    try {
        const [server, list] = await Promise.all([
            get("v2"), request("v2/repository/index", { method: "POST" }).then((r) => r.json())]);
        allowed = server.model_control === true;
        byId("control-note").textContent = allowed ? "Models can be loaded and unloaded here."
            : "Models cannot be loaded or unloaded here: the server was started without --model-control.";
        const focused = document.activeElement?.getAttribute("aria-label");
        byId("repository").replaceChildren(...list.map((entry) => make(
            "tr", {}, make("td", { class: "called" }, entry.name), make("td", {}, entry.version ?? ""),
            make("td", { class: colourOf(entry) }, entry.state ?? "not loaded"),
            make("td", {}, notes.get(entry.name) ?? entry.reason ?? ""), control(entry))));
        if (focused)
            byId("repository").querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
    } catch {
        /* the frame says so, and the next reading may do better */
    }
}

export function show() {
    hide();
    refresh();
    timer = setInterval(refresh, PERIOD);
}

export function hide() {
    clearInterval(timer);
}
