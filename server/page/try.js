// The first view: pictures in, classes out. Each picture is a request of its own, so that each has
// its own times and its own error; the server makes batches of those that come together.
import { modelPath, request, timing } from "./api.js";
import { byId, make, meter, percent } from "./dom.js";

const AT_ONCE = 6;          // a browser opens no more connections
const RETRY_FIRST = 1000;   // milliseconds until a request that may yet succeed is sent again
const RETRY_LAST = 8000;

const results = byId("results"), summary = byId("try-summary");
// { file, element, state: "waiting" | "running" | "done" | "failed" | "put off" }
const entries = [];
let model = "", running = 0;

// How the time of a request is divided, in the order of the bar's colours.
const PARTS = [["decode", "decoding"], ["queue", "waiting"], ["compute", "computing"],
               ["rest", "other"]];

const milliseconds = (ms) => `${ms.toFixed(ms < 0.995 ? 2 : ms < 9.95 ? 1 : 0)} ms`;

// times: what the server says; spent: what the browser saw. Both in milliseconds.
function timesOf(times, spent) {
    const known = (times.decode || 0) + (times.queue || 0) + (times.compute || 0);
    const total = Math.max(times.total || 0, known) || 1;
    const all = { ...times, rest: total - known };
    const bar = make("div", { class: "split", "aria-hidden": "true" });
    const words = make("p");
    PARTS.forEach(([name, text], i) => {
        const part = make("i", { class: `s${i}` });
        part.style.width = `${(all[name] || 0) / total * 100}%`;
        bar.append(part);
        words.append(make("span", { class: "part" },
                          make("i", { class: `key s${i}`, "aria-hidden": "true" }),
                          `${text} ${milliseconds(all[name] || 0)}`), " ");
    });
    return make("div", { class: "times" }, bar, make(
        "p", {}, make("strong", {}, milliseconds(total)), " in the server, ",
        `${milliseconds(spent)} with the network`), words);
}

function answerOf(classes) {
    // Scores above 1 are no probabilities.
    const most = Math.max(1, ...classes.map((c) => Math.abs(c.score ?? 0)));
    return make("ol", { class: "classes" }, ...classes.map((c) => make(
        "li", {}, make("span", { title: c.label ?? "" }, c.label ?? `class ${c.index}`),
        make("span", { class: "n" }, c.score === null ? "–" :
             c.score >= 0 && c.score <= 1 ? percent(c.score) : c.score.toFixed(3)),
        meter((c.score ?? 0) / most))));
}

function fill(entry, answer, times) {
    entry.answer.replaceChildren(answer);
    entry.times.replaceChildren(...(times ? [times] : []));
}

async function run(entry) {
    const started = performance.now();
    const top = Number(byId("top").value) || 5;
    entry.state = "running";
    fill(entry, make("p", { class: "quiet" }, "asking …"));
    try {
        const response = await request(`${modelPath(model)}/classify?top=${top}`,
                                       { method: "POST", body: entry.file });
        const answer = await response.json();
        const spent = performance.now() - started;
        entry.state = "done";
        entry.retry = RETRY_FIRST;
        fill(entry, answerOf(answer.predictions[0].classes), timesOf(timing(response), spent));
    } catch (error) {
        entry.state = error.passing ? "put off" : "failed";
        const again = make("button", { type: "button", onclick: () => wait(entry) }, "Try again");
        const note = make("p", { class: "bad", role: "alert" }, error.message ?? String(error));
        if (error.passing) {
            note.append(` It is sent again in ${Math.round(entry.retry / 1000)} s.`);
            entry.timer = setTimeout(() => wait(entry), entry.retry);
            entry.retry = Math.min(entry.retry * 2, RETRY_LAST);
        }
        fill(entry, make("div", {}, note, again));
    }
}

function wait(entry) {
    clearTimeout(entry.timer);
    if (entry.state !== "running")
        entry.state = "waiting";
    next();
}

function next() {
    for (const entry of entries) {
        if (running >= AT_ONCE || model === "") // without a model they wait for one
            break;
        if (entry.state !== "waiting")
            continue;
        running++;
        run(entry).finally(() => {
            running--;
            next();
        });
    }
    const count = (state) => entries.filter((e) => e.state === state).length;
    const others = [["failed", "failed"], ["put off", "to be sent again"]].filter(([s]) => count(s) > 0);
    summary.textContent = entries.length === 0 ? "" :
        [`${count("done")} of ${entries.length} answered`,
         ...others.map(([s, text]) => `${count(s)} ${text}`)].join(", ");
    byId("again").disabled = byId("clear").disabled = entries.length === 0;
}

export function add(files) {
    for (const file of files) {
        const url = URL.createObjectURL(file);
        const entry = { file, state: "waiting", retry: RETRY_FIRST, url,
                        answer: make("div", { class: "answer" }), times: make("div", { class: "times" }) };
        const image = make("img", {
            src: url, alt: "", onerror: () => image.classList.add("none"),
            // What is much smaller than its place shows its pixels.
            onload: () => image.classList.toggle("tiny", image.naturalWidth < 64),
        });
        entry.element = make("li", { class: "card result" }, make("h3", { title: file.name }, file.name),
                             image, entry.answer, entry.times);
        entries.push(entry);
        results.append(entry.element);
        fill(entry, make("p", { class: "quiet" }, "waiting …"));
    }
    next();
}

function clear() {
    for (const entry of entries.splice(0)) {
        clearTimeout(entry.timer);
        URL.revokeObjectURL(entry.url);
        entry.element.remove();
    }
    next();
}

byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
});
byId("again").addEventListener("click", () => entries.forEach(wait));
byId("top").addEventListener("change", () => entries.forEach(wait));
byId("clear").addEventListener("click", clear);

const drop = byId("drop");
for (const type of ["dragover", "dragleave", "drop"])
    drop.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", type === "dragover");
        if (type === "drop")
            add([...event.dataTransfer.files]);
    });
// A picture that misses its place must not replace the page.
for (const type of ["dragover", "drop"])
    window.addEventListener(type, (event) => event.preventDefault());
document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length > 0 && !byId("view-try").hidden)
        add(files);
});

// The camera. Browsers allow it on https and on localhost.
const video = byId("video");
let stream = null;

function cameraOff() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    byId("camera").hidden = true;
}

byId("webcam").addEventListener("click", async () => {
    try {
        if (!navigator.mediaDevices)
            throw new Error("The browser allows a camera only on https and on localhost.");
        stream = await navigator.mediaDevices.getUserMedia({ video: true });
        video.srcObject = stream;
        byId("camera").hidden = false;
        await video.play();
    } catch (error) {
        summary.textContent = `No camera: ${error.message}`;
    }
});
byId("camera-off").addEventListener("click", cameraOff);
byId("snap").addEventListener("click", () => {
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => add([new File([blob], "camera.jpg", { type: blob.type })]), "image/jpeg");
});

export function show(name) {
    model = name;
    byId("curl").textContent = "curl --data-binary @cat.jpg \\\n    " +
        `'${new URL(`${modelPath(name)}/classify?top=5`, location.href)}'`;
    next();
}

byId("copy-curl").addEventListener("click", async () => {
    const button = byId("copy-curl");
    try {
        await navigator.clipboard.writeText(byId("curl").textContent);
        button.textContent = "Copied";
    } catch { // browsers allow it only on https and on localhost
        getSelection().selectAllChildren(byId("curl"));
        button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

export function hide() {
    cameraOff();
}
