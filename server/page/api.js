// Requests to the server that this page came from. Every failure is an error whose message is a
// sentence: the server's own, or that it cannot be reached.

export class ServerError extends Error {
    // Whether the same request may well succeed a little later.
    constructor(message, status, passing) {
        super(message);
        this.status = status;
        this.passing = passing;
    }
}

const listeners = new Set();

// listener({ kind: "up" | "down" | "key", message }) after each request.
export function onState(listener) {
    listeners.add(listener);
}

function tell(state) {
    for (const listener of listeners)
        listener(state);
}

let key = sessionStorage.getItem("convd-key");

export function useKey(text) {
    key = text;
    sessionStorage.setItem("convd-key", text);
}

async function sentenceOf(response) {
    try {
        const body = await response.json();
        return body.error || `The server answered ${response.status}.`;
    } catch {
        return `The server answered ${response.status} without a reason.`;
    }
}

// The response, whose status is 2xx. path is relative, so that the page works behind a prefix.
export async function request(path, options = {}) {
    const headers = new Headers(options.headers);
    if (key)
        headers.set("Authorization", `Bearer ${key}`);
    let response;
    try {
        response = await fetch(path, { ...options, headers, cache: "no-store" });
    } catch {
        const e = new ServerError("The server cannot be reached.", 0, true);
        tell({ kind: "down", message: e.message });
        throw e;
    }
    if (response.ok) {
        tell({ kind: "up" });
        return response;
    }
    const message = await sentenceOf(response);
    if (response.status === 401)
        tell({ kind: "key", message });
    else
        tell({ kind: "up" });
    throw new ServerError(message, response.status,
                          response.status === 503 || response.status === 429);
}

export const get = async (path) => (await request(path)).json();
export const modelPath = (name) => `v2/models/${encodeURIComponent(name)}`;

// { decode, queue, compute, total } in milliseconds, of the Server-Timing header.
export function timing(response) {
    const times = {};
    for (const part of (response.headers.get("Server-Timing") || "").split(",")) {
        const found = /^\s*(\w+);dur=([\d.]+)/.exec(part);
        if (found)
            times[found[1]] = Number(found[2]);
    }
    return times;
}
