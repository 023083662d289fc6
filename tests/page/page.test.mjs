// The built-in page in a real browser: what a visitor does, and what must not happen meanwhile.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";

import { launch, open, root, Server, shot, violations } from "./harness.mjs";

const samples = path.join(root, "models/fashion/samples");
const three = [["0000_ankle_boot.png", "Ankle boot"], ["0002_trouser.png", "Trouser"],
               ["0018_bag.png", "Bag"]];

let browser, server, folder;

before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "convd-page-"));
    for (const name of ["fashion", "second"]) {
        mkdirSync(path.join(folder, name));
        for (const file of ["model.onnx", "labels.txt", "config.json"])
            copyFileSync(path.join(root, "models/fashion", file), path.join(folder, name, file));
    }
    mkdirSync(path.join(folder, "broken"));
    writeFileSync(path.join(folder, "broken", "model.onnx"), "no model at all");
    server = await Server.start([folder, "--model-control", "--max-body", "1M"]);
    browser = await launch();
});

after(async () => {
    await browser?.close();
    await Server.stopAll();
    rmSync(folder, { recursive: true, force: true });
});

// Ends a page: nothing may have been said on the console but what is expected, nothing asked of
// anybody else.
async function end(page, expected = null) {
    const said = page.said.filter((line) => !expected || !expected.test(line));
    assert.deepEqual(said, []);
    assert.deepEqual(page.elsewhere, []);
    await page.context().close();
}

test("three pictures get their labels, with the times", async () => {
    const page = await open(browser, server);
    await page.selectOption("#model", "fashion");
    await page.setInputFiles("#files", three.map(([file]) => path.join(samples, file)));
    const results = page.locator(".result");
    await results.nth(2).locator(".classes").waitFor();
    for (const [i, [file, label]] of three.entries()) {
        assert.equal(await results.nth(i).locator("h3").textContent(), file);
        const first = results.nth(i).locator(".classes li").first();
        await first.waitFor();
        assert.equal(await first.locator("span").first().textContent(), label);
        assert.match(await results.nth(i).locator(".times").first().textContent(),
                     /decoding [\d.]+.*waiting [\d.]+.*computing [\d.]+.* ms/);
    }
    await page.getByText("3 of 3 answered").waitFor();
    assert.deepEqual(await violations(page), []);
    await shot(page, "try-light");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.deepEqual(await violations(page), []);
    await shot(page, "try-dark");
    await page.fill("#top", "2");
    await page.keyboard.press("Tab");
    await page.waitForFunction(() => document.querySelectorAll(".classes li").length === 6);
    await page.click("#clear");
    assert.equal(await results.count(), 0);
    await end(page);
});

test("pictures are dropped, pasted and taken with the camera", async () => {
    const page = await open(browser, server);
    const files = await page.evaluateHandle(async () => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 40;
        const blob = await new Promise((done) => canvas.toBlob(done));
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], "black.png", { type: "image/png" }));
        return transfer;
    });
    await page.dispatchEvent("#drop", "drop", { dataTransfer: files });
    await page.locator(".result .classes").first().waitFor();
    await page.evaluate((transfer) => document.dispatchEvent(
        new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })), files);
    await page.locator(".result").nth(1).locator(".classes").waitFor();
    await page.click("#webcam");
    await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
    await page.click("#snap");
    await page.locator(".result").nth(2).locator(".classes").waitFor();
    assert.equal(await page.locator(".result h3").nth(2).textContent(), "camera.jpg");
    await page.click("#camera-off");
    await end(page);
});

test("what is no picture, and what is too large, show the server's sentence", async () => {
    const page = await open(browser, server);
    await page.setInputFiles("#files", [
        { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") },
        { name: "large.png", mimeType: "image/png", buffer: Buffer.alloc(2 << 20) },
        { name: three[0][0], mimeType: "image/png", buffer: readFileSync(path.join(samples, three[0][0])) },
    ]);
    const answer = await (await fetch(`${server.url}v2/models/fashion/classify`,
                                      { method: "POST", body: "no picture" })).json();
    const results = page.locator(".result");
    await results.nth(0).locator(".bad").waitFor();
    assert.equal(await results.nth(0).locator(".bad").textContent(), answer.error);
    // A connection that is closed on a body may cost a browser the answer: it is sent again by itself.
    await results.nth(1).locator(".bad", { hasText: "larger than the 1048576 bytes" }).waitFor();
    await results.nth(2).locator(".classes").waitFor();
    assert.deepEqual(await violations(page), []);
    await shot(page, "try-errors");
    await end(page, /^error: Failed to load resource/);
});

test("requests that fail are seen in the live view", async () => {
    const page = await open(browser, server, "#/live");
    let more = true;
    const load = (async () => {
        while (more)
            assert.equal((await fetch(`${server.url}v2/models/fashion/classify`,
                { method: "POST", body: "no picture" })).status, 400);
    })();
    try {
        await page.waitForFunction(() => [...document.querySelectorAll("#live-table tbody tr")].some(
            (tr) => tr.cells[0].textContent === "fashion" && Number(tr.cells[1].textContent) > 1 &&
                Number(tr.cells[7].textContent) > 1), null, { timeout: 20000 });
    } finally {
        more = false;
        await load;
    }
    await end(page);
});

test("the live view moves under load", async () => {
    const page = await open(browser, server, "#/live");
    const body = readFileSync(path.join(samples, three[0][0]));
    let more = true;
    const load = (async () => {
        while (more)
            await Promise.all(Array.from({ length: 8 }, async () => (await fetch(
                `${server.url}v2/models/fashion/classify`, { method: "POST", body })).arrayBuffer()));
    })();
    try {
        const rate = page.locator("#live-table tbody tr", { hasText: "fashion" }).locator("td").nth(1);
        await page.waitForFunction(() => [...document.querySelectorAll("#live-table tbody tr")].some(
            (tr) => tr.cells[0].textContent === "fashion" && Number(tr.cells[1].textContent) > 1 &&
                Number(tr.cells[2].textContent) > 0), null, { timeout: 20000 });
        assert.ok(Number(await rate.textContent()) > 1);
        await page.waitForTimeout(4000);
        assert.ok((await page.locator("#charts .line.l0").first().getAttribute("d")).length > 20);
        // Seconds in which another view was looked at are a gap, not a line.
        const strokes = async () => (await page.locator("#charts .line.l0").first().getAttribute("d"))
            .split("M").length;
        const one = await strokes();
        await page.evaluate(() => { location.hash = "#/model"; });
        await page.waitForTimeout(4000);
        await page.evaluate(() => { location.hash = "#/live"; });
        await page.waitForFunction((n) => document.querySelector("#charts .line.l0").getAttribute("d")
            .split("M").length > n, one);
        assert.deepEqual(await violations(page), []);
        await shot(page, "live");
    } finally {
        more = false;
        await load;
    }
    await end(page);
});

test("a model's batch norm report, its layers, and their times", async () => {
    const page = await open(browser, server, "#/model/fashion");
    await page.locator("#batchnorms tbody tr").first().waitFor();
    const report = await (await fetch(`${server.url}v2/models/fashion/report`)).json();
    assert.equal(await page.locator("#batchnorms tbody tr").count(), report.batchnorms.length);
    assert.equal(await page.locator("#batchnorms tbody tr").first().locator("svg").count(), 3);
    assert.match(report.pictures, /^28x28 grey .*0\.286/);
    await page.locator("#facts").getByText(report.pictures).waitFor();
    const layers = page.locator("#layers tbody tr");
    assert.equal(await layers.count(), report.layers.length);
    // The graph: each row has its dot, and lanes lead to it from what it reads.
    for (const [i, layer] of report.layers.entries()) {
        const drawn = layers.nth(i).locator(".graph svg");
        assert.equal(await drawn.locator("circle").count(), 1);
        assert.equal(await drawn.locator("path").count(), layer.from.length);
        for (const from of layer.from)
            assert.match(await drawn.locator("title").textContent(),
                         from < 0 ? /the input/ : new RegExp(`\\b${from} ${report.layers[from].op}\\b`));
    }
    const sum = report.layers.findIndex((layer) => layer.from.length === 2);
    await layers.nth(sum).hover();
    await page.waitForFunction((n) => document.querySelectorAll("#layers tr.near").length === n,
                               report.layers.filter((l, i) => l.from.includes(sum) ||
                                                    report.layers[sum].from.includes(i)).length);
    assert.equal(await layers.locator(".in-weights").count(),
                 report.batchnorms.filter((b) => b.fate.startsWith("folded")).length);
    await page.getByRole("button", { name: "Batch norms" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "h-batchnorms");
    await page.click("#profile");
    await page.getByText("ms a run").waitFor();
    assert.match(await page.locator("#layers tbody tr").nth(1).textContent(), /ms, [\d.]+ %/);
    assert.deepEqual(await violations(page), []);
    await shot(page, "model-light");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.deepEqual(await violations(page), []);
    await shot(page, "model-dark");
    await end(page);
});

test("the repository: why a model failed, unloading and loading", async () => {
    const page = await open(browser, server, "#/repository");
    const row = (name) => page.locator("#repository tr", { hasText: name });
    await row("broken").waitFor();
    const index = await (await fetch(`${server.url}v2/repository/index`, { method: "POST" })).json();
    const reason = index.find((e) => e.name === "broken").reason;
    assert.ok((await row("broken").textContent()).includes(reason));
    await page.getByRole("button", { name: "Load broken" }).click();
    await row("broken").getByText("load failed").waitFor();
    await page.getByRole("button", { name: "Unload second" }).click();
    await page.getByRole("button", { name: "Load second", exact: true }).waitFor();
    await page.waitForFunction(() => document.getElementById("model").options.length === 1);
    await shot(page, "repository");
    assert.deepEqual(await violations(page), []);
    await page.getByRole("button", { name: "Load second", exact: true }).click();
    await page.getByRole("button", { name: "Unload second" }).waitFor();
    await end(page, /^error: Failed to load resource.*400/);
});

test("without a model pictures wait until there is one", async () => {
    const mine = await Server.start([path.join(folder, "fashion"), "--model-control"]);
    const change = (what) => fetch(`${mine.url}v2/repository/models/fashion/${what}`, { method: "POST" });
    const page = await open(browser, mine);
    const note = page.locator("#no-models");
    await page.locator("#model option").waitFor({ state: "attached" });
    assert.equal(await note.isVisible(), false);
    await change("unload");
    await note.waitFor();
    await page.setInputFiles("#files", path.join(samples, three[0][0]));
    await page.getByText("waiting …").waitFor();
    assert.deepEqual(await violations(page), []);
    await shot(page, "no-models");
    for (const view of ["live", "model"]) {
        await page.evaluate((hash) => { location.hash = hash; }, `#/${view}`);
        await page.locator(`#view-${view}`).waitFor({ state: "hidden" });
        assert.ok(await note.isVisible());
    }
    await note.getByRole("link").click();
    await page.locator("#repository").getByText("unloaded").waitFor();
    await page.evaluate(() => { location.hash = "#/try"; });
    await change("load");
    await page.locator(".result .classes").waitFor();
    assert.equal(await note.isVisible(), false);
    await end(page);
    await mine.stop();
});

test("long names, many models: nothing reaches over a telephone's edge", async () => {
    const many = mkdtempSync(path.join(tmpdir(), "convd-many-"));
    const names = [`${"a-model-with-a-very-long-name.".repeat(4)}int8`,
                   ...Array.from({ length: 12 }, (_, i) => `model-${i}`)];
    for (const name of names) {
        mkdirSync(path.join(many, name));
        copyFileSync(path.join(root, "models/fashion/model.onnx"), path.join(many, name, "model.onnx"));
    }
    const mine = await Server.start([many]);
    for (const colorScheme of ["light", "dark"]) {
        const page = await open(browser, mine, "", { viewport: { width: 360, height: 800 }, colorScheme });
        await page.setInputFiles("#files", [path.join(samples, three[0][0])]);
        await page.locator(".result .classes").waitFor();
        for (const view of ["try", "live", "model", "repository"]) {
            await page.evaluate((hash) => { location.hash = hash; }, `#/${view}`);
            await page.locator({ try: ".result", live: "#live-table tbody tr", model: "#layers tbody tr",
                                 repository: "#repository tr" }[view]).first().waitFor();
            assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, view);
            await shot(page, `many-${view}-${colorScheme}`);
        }
        await end(page);
    }
    await mine.stop();
    rmSync(many, { recursive: true, force: true });
});

test("a server that goes away and comes back: nothing is lost", async () => {
    let mine = await Server.start([path.join(folder, "fashion")]);
    const page = await open(browser, mine);
    await page.setInputFiles("#files", path.join(samples, three[0][0]));
    await page.locator(".classes").waitFor();
    const port = mine.port;
    await mine.stop();
    await page.setInputFiles("#files", path.join(samples, three[1][0]));
    await page.getByText("cannot be reached").first().waitFor();
    await page.getByText("1 of 2 answered, 1 to be sent again").waitFor();
    await shot(page, "down");
    mine = await Server.start([path.join(folder, "fashion")], port);
    await page.locator(".result").nth(1).locator(".classes").waitFor({ timeout: 20000 });
    await page.locator("#trouble").waitFor({ state: "hidden" });
    assert.equal(await page.locator(".result").count(), 2);
    await end(page, /^error: Failed to load resource.*ERR_/);
    await mine.stop();
});

test("a server with keys asks for one", async () => {
    const keys = path.join(folder, "keys.txt");
    writeFileSync(keys, "a-long-secret-key-of-this-test\n");
    const mine = await Server.start([path.join(folder, "fashion"), "--api-keys", keys]);
    const page = await open(browser, mine);
    await page.locator("#key").waitFor();
    await page.fill("#key-text", "a-long-secret-key-of-this-test");
    await page.click("#key button");
    await page.locator("#key").waitFor({ state: "hidden" });
    await page.setInputFiles("#files", path.join(samples, three[0][0]));
    await page.locator(".classes").waitFor();
    await end(page, /^error: Failed to load resource.*401/);
    await mine.stop();
});

test("everything is reached by keyboard, and on a telephone", async () => {
    const page = await open(browser, server, "", { viewport: { width: 390, height: 800 } });
    await page.locator("#model option").first().waitFor({ state: "attached" });
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    const seen = new Set();
    for (let i = 0; i < 16; i++) {
        await page.keyboard.press("Tab");
        seen.add(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
    }
    for (const stop of ["Live", "model", "files", "webcam", "top"])
        assert.ok(seen.has(stop), `${stop} among ${[...seen]}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false);
    await shot(page, "telephone");
    await end(page);
});

test("the page is small", async () => {
    let bytes = 0;
    const seen = new Set(["", "docs", "openapi.json"]);
    for (const name of seen) {
        const response = await new Promise((done, fail) => get(
            server.url + name, { headers: { "Accept-Encoding": "gzip" } }, done).on("error", fail));
        assert.equal(response.statusCode, 200);
        assert.equal(response.headers["content-encoding"], "gzip");
        const parts = [];
        for await (const part of response)
            parts.push(part);
        const body = Buffer.concat(parts);
        bytes += body.length;
        for (const [, other] of gunzipSync(body).toString().matchAll(/(?:src|href)="(page\/[^"]+)"/g))
            seen.add(other);
        for (const [, other] of gunzipSync(body).toString().matchAll(/from "\.\/([^"]+)"/g))
            seen.add(`page/${other}`);
    }
    assert.ok(seen.size > 10, [...seen].join(" "));
    assert.ok(bytes < 150 * 1024, `${bytes} bytes`);
});

test("the documentation of the API", async () => {
    const page = await open(browser, server, "docs");
    await page.locator(".operation").first().waitFor();
    const spec = await (await fetch(`${server.url}openapi.json`)).json();
    const count = Object.values(spec.paths).reduce((n, item) => n + Object.keys(item).filter(
        (k) => k === "get" || k === "post").length, 0);
    assert.equal(await page.locator(".operation").count(), count);
    await page.fill("#filter", "post repository LOAD");
    await page.getByText("4 found").waitFor();
    assert.equal(await page.locator(".operation:visible").count(), 4);
    await page.fill("#filter", "");
    await page.locator("summary").first().click();
    // What an answer is made of is there down to the last member.
    await page.locator(".operation[open] td code", { hasText: /^score$/ }).waitFor();
    assert.deepEqual(await violations(page), []);
    await shot(page, "docs");
    await end(page);
});
