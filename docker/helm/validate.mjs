// Validates rendered manifests: node validate.mjs MODULES FILE.yaml...; MODULES is the node_modules
// folder with the schemas. Exit status 1 and a line for each object that is wrong.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, ...files] = process.argv.slice(2);
const require = createRequire(path.resolve(modules, "x.js"));
const yaml = require("yaml");
const ajv = new (require("ajv").default)({ strict: false, allErrors: true });
const kserve = ajv.compile(JSON.parse(readFileSync(new URL("kserve.schema.json", import.meta.url))));

// The packages are modules that only import() finds, and it looks from this file unless told a path.
async function load(name, group) {
    return import(pathToFileURL(path.resolve(modules, name, group, "index.js")));
}

const PACKAGES = { "keda.sh": "@kubernetes-models/keda", "monitoring.coreos.com": "@kubernetes-models/prometheus-operator" };

// Throws what is wrong with an object.
async function check(object) {
    if (object.apiVersion.startsWith("serving.kserve.io/")) {
        if (!kserve(object))
            throw new Error(ajv.errorsText(kserve.errors));
        // Its containers are Kubernetes' own: they are checked in a Pod.
        if (object.spec.containers) {
            const { Pod } = await load("kubernetes-models", "v1");
            new Pod({ metadata: { name: "pod" }, spec: { containers: object.spec.containers } }).validate();
        }
        return;
    }
    const group = object.apiVersion.split("/")[0];
    const kind = (await load(PACKAGES[group] ?? "kubernetes-models", object.apiVersion))[object.kind];
    if (kind === undefined)
        throw new Error("no such kind");
    new kind(object).validate();
}

let wrong = 0, right = 0;
for (const file of files) {
    for (const document of yaml.parseAllDocuments(readFileSync(file, "utf8"))) {
        const object = document.toJS();
        if (object === null)
            continue;
        try {
            if (document.errors.length > 0)
                throw document.errors[0];
            await check(object);
            right++;
        } catch (error) {
            wrong++;
            console.error(`${file}: ${object.kind} ${object.metadata?.name}: ${error.message}`);
        }
    }
}
console.log(`${right} objects are valid, ${wrong} are not`);
process.exit(wrong > 0 || right === 0 ? 1 : 0);
