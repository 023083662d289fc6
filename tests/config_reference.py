#!/usr/bin/python3
"""Puts a table of what a model's config.json may hold, out of its schema, between the markers of FILE;
with --check it only says whether that would change anything. tests/test_model_config.c holds the schema
against the code."""

import difflib
import json
import pathlib
import re
import sys

SCHEMA = pathlib.Path(__file__).resolve().parent.parent / "server" / "model_config.schema.json"


WORDS = {"integer": "whole number", "number": "number", "string": "string"}


def value_of(s, schema):
    """What a key takes, in a few words."""
    if "$ref" in s:
        return value_of(schema["$defs"][s["$ref"].split("/")[-1]], schema)
    if "enum" in s:
        return ", ".join(f"`{v}`" for v in s["enum"])
    if "oneOf" in s:
        kinds = [value_of(one, schema) for one in s["oneOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if s["type"] == "array":
        return f"array of {WORDS[s['items']['type']]}s"
    if s["type"] == "boolean":
        return "`true`, `false`"
    if "minimum" in s:
        return f"{s['minimum']} to {s['maximum']}"
    return WORDS[s["type"]]


def told(text):
    """A description without its default, and that."""
    said = re.search(r" ?Default: (.*)\.$", text)
    return (text[:said.start()], said.group(1)) if said else (text, "")


def rows(properties, schema, above=""):
    for key, s in properties.items():
        name = above + key
        named = schema["$defs"].get(s.get("$ref", "").split("/")[-1], {})
        text, default = told(s.get("description") or named.get("description", ""))
        if "default" in s:
            default = f"`{json.dumps(s['default'])}`"
        if s.get("type") != "object":
            yield name, value_of(s, schema), default, text
            continue
        inner = s.get("properties", {})
        yield name, "object" if inner else "`{}`", default, text
        yield from rows(inner, schema, name + ".")


def table():
    schema = json.loads(SCHEMA.read_text())
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for name, value, default, text in rows(schema["properties"], schema):
        lines.append(f"| `{name}` | {value} | {default} | {text.rstrip('.')} |")
    return "\n".join(lines)


def main():
    check = "--check" in sys.argv
    file = pathlib.Path(sys.argv[-1])
    old = file.read_text()
    new = re.sub(r"(<!-- config -->\n).*?(\n<!-- end of config -->)",
                 lambda m: f"{m.group(1)}\n{table()}\n{m.group(2)}", old, flags=re.S)
    if not check:
        file.write_text(new)
    elif new != old:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(file), "wanted"))
        sys.exit(f"{file}: the table of config.json is old: make reference")


if __name__ == "__main__":
    main()
