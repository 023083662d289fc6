// A convd to look at, a browser to look with, and a record of what the browser said and asked.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

// What npm installed lies in build/, not beside these files.
export const root = fileURLToPath(new URL("../../", import.meta.url));
const require = createRequire(path.join(root, "build/node_modules/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const binary = path.resolve(root, process.env.CONVD_BINARY ?? "build/convd");
const shots = path.join(root, "build/page");
mkdirSync(shots, { recursive: true });

// convd serve with these arguments on a port (0: any that is free).
export class Server {
    static running = new Set();

    // Also those that a failed test left behind, which would keep the run from ending.
    static async stopAll() {
        await Promise.all([...Server.running].map((server) => server.stop()));
    }

    static async start(args, port = 0) {
        const server = new Server();
        Server.running.add(server);
        server.process = spawn(binary, ["serve", ...args, "--host", "127.0.0.1", "--port", String(port)],
                               { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
        server.log = [];
        for await (const line of readline.createInterface({ input: server.process.stderr })) {
            server.log.push(line);
            const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
            if (found) {
                server.port = Number(found[1]);
                server.url = `http://127.0.0.1:${server.port}/`;
                server.process.stderr.resume();
                return server;
            }
        }
        throw new Error(`convd did not start:\n${server.log.join("\n")}`);
    }

    async stop() {
        Server.running.delete(this);
        if (this.process.exitCode === null && this.process.signalCode === null) {
            this.process.kill("SIGTERM");
            await once(this.process, "exit");
        }
    }
}

export async function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream",
               "--use-fake-ui-for-media-stream"],
    });
}

// A page whose console lines, failed scripts and requests to elsewhere are kept.
export async function open(browser, server, hash = "", options = {}) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
    const page = await context.newPage();
    page.said = [];
    page.elsewhere = [];
    page.on("console", (message) => page.said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => page.said.push(`exception: ${error.message}`));
    page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith(server.url) && !/^(blob|data):/.test(url))
            page.elsewhere.push(url);
    });
    await page.goto(server.url + hash);
    return page;
}

export async function shot(page, name) {
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
}

// The serious violations that axe-core finds, as text.
export async function violations(page) {
    // Through the debugger, which the page's own policy on scripts does not concern.
    await page.evaluate(axe);
    const result = await page.evaluate(() => globalThis.axe.run());
    return result.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
        .map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
}
