#!/usr/bin/env python3
"""Whether the kernel checks would notice: kernels are broken on purpose, one mistake at a time, and
each has to make its check fail.

    tests/mutants.py [--list] [NAME...]      all of them, or those named; `make mutants` builds first

A mutant is a copy of one file with one piece of text replaced, compiled and linked in front of the
library in build/release; files are left as they are. A text that is not found is an error: whoever
changes a line that is broken here says anew what a mistake in it looks like. Those that are
"as it is" are the other way round: files that were not changed, with which checks have to pass.
Checks that SKIP names were not built: their mutants are skipped.
"""
import os
import subprocess
import sys

B = os.environ.get("B", "build/release")
CC = os.environ.get("CC", "gcc")
SKIP = os.environ.get("SKIP", "").split()
K, OPS = "runtime/kernels/", "runtime/ops/"
KERNELS, WINOGRAD, INTEGERS = "check_kernels", "check_winograd", "check_integers"
OPERATORS = "test_ops"

# name, file, the text, what it becomes, the check that has to fail
MUTANTS = [
    ("as it is: winograd", K + "winograd.inc", "", "", WINOGRAD),
    ("as it is: mac", K + "mac.inc", "", "", KERNELS),
    ("as it is: bytes", K + "integer.inc", "", "", INTEGERS),
    ("as it is: packing", OPS + "conv_dense.c", "", "", OPERATORS),
    ("winograd: a wrong constant of the weights", K + "winograd.inc",
     "per_a = 1.0 / (2.0 * a2", "per_a = 1.0 / (2.001 * a2", WINOGRAD),
    ("winograd: a sign of the input's transform", K + "winograd.inc",
     "v[4] = even_b - odd_b;", "v[4] = odd_b - even_b;", WINOGRAD),
    ("winograd: padding off by one", K + "winograd.inc",
     "((uint64_t)c < (uint64_t)t->width", "((uint64_t)(c - 1) < (uint64_t)t->width", WINOGRAD),
    ("winograd: the last tile's columns not cut", K + "winograd.inc",
     "j < M && j < columns;", "j < M;", WINOGRAD),
    ("winograd: the last tile's rows not cut", K + "winograd.inc",
     "t->height - t->row < M ? t->height - t->row : M", "M", WINOGRAD),
    ("winograd: residual after the clamp", K + "winograd.inc",
     "if (t->clamp)  ", "if (t->clamp && t->residual == NULL)  ", WINOGRAD),
    ("winograd: gains of a batch norm forgotten", OPS + "conv_winograd.c",
     "l < maps ? rt_conv_gain(&s->w, map + l) : 0.0f", "1.0f", WINOGRAD),
    ("mac: bias forgotten", K + "mac.inc",
     "ACC(p, k) = vload(bias + k * VEC_N);", "ACC(p, k) = (VEC){ 0 };", KERNELS),
    ("mac: clamp before the residual", K + "mac.inc",
     "if (residual != NULL) {  ", "if (residual != NULL && !m->clamp) {  ", KERNELS),
    ("mac: lanes of the last block", K + "mac.inc",
     "outer + 1 < m->outer ? m->lanes : m->last_lanes", "m->lanes", KERNELS),
    ("mac: the next row's tap one column late", K + "mac.inc",
     "next_row = m->x_kh - (m->kw - 1) * m->x_kw", "next_row = m->x_kh - m->kw * m->x_kw", KERNELS),
    ("mac: upper bound forgotten", K + "mac.inc", "if (m->hi < INFINITY)", "if (m->hi < 0)", KERNELS),
    ("elementwise: a tail left out", K + "elementwise.inc",
     "        if (i < n)                                                                               "
     "  \\\n            vstore_part(y + i, ISA(name##_of)",
     "        if (i + 1 < n)                                                                           "
     "  \\\n            vstore_part(y + i, ISA(name##_of)", KERNELS),
    ("elementwise: ReLU loses NaN", K + "elementwise.inc",
     "ACTIVATION(relu, vmax(ZERO, v))", "ACTIVATION(relu, vmax(v, ZERO))", KERNELS),
    ("elementwise: hard-swish by a wrong constant", K + "elementwise.inc",
     "1.0f / 6", "1.0f / 6.001f", KERNELS),
    ("layout: channels swapped", K + "layout.inc",
     "0, 8, 1, 9, 2, 10, 3, 11", "8, 0, 1, 9, 2, 10, 3, 11", KERNELS),
    ("layout: lanes past the last channel", K + "layout.inc",
     "? x[l * stride + p] : 0.0f", "? x[l * stride + p] : 1.0f", KERNELS),
    ("layout: gains forgotten", K + "layout.inc",
     "vstore(y + at[from + i], row[i] * by)", "vstore(y + at[from + i], row[i])", KERNELS),
    ("layout: the last square begins too far on", K + "layout.inc",
     "p + VEC_N <= count ? p : count - VEC_N", "p", KERNELS),
    ("depthwise: the stride of taps", K + "depthwise.inc",
     "vload(x + (p * stride + j) * VEC_N)", "vload(x + (p + j) * VEC_N)", KERNELS),
    ("depthwise: clamp forgotten", K + "depthwise.inc", "if (d->clamp)", "if (false)", KERNELS),
    ("grouped: lanes of the group's first channel", K + "grouped.inc",
     "const IVEC index = vload_int(g->lane + c * VEC_N);                                 \\\n"
     "                const VEC w_0", "const IVEC index = vload_int(g->lane);\\\n"
     "                const VEC w_0", KERNELS),
    ("norm: epsilon forgotten", K + "norm.inc", "/ count + n->epsilon", "/ count", KERNELS),
    ("norm: lanes past the last channel are summed", K + "norm.inc",
     "l <= (n->channels - 1) % VEC_N ? -1 : 0", "-1", KERNELS),
    ("packing: a panel's gains forgotten", OPS + "conv_dense.c",
     "l < maps ? rt_conv_gain(&s->unpacked, map + l) : 0.0f", "1.0f", OPERATORS),
    ("packing: channels swapped", OPS + "conv_dense.c",
     "s->unpacked.w + (first + i) * c->maps", "s->unpacked.w + (first + (i ^ 1)) * c->maps", OPERATORS),
    ("convolution: padding off by one", OPS + "conv_dense.c",
     "row * c->stride[1] - c->pad[1]", "row * c->stride[1] - c->pad[1] + (c->pad[1] > 0)", KERNELS),
    ("convolution: weights of a chunk", OPS + "conv_dense.c",
     "(size_t)outer * m.kh * m.kw * m.lanes", "(size_t)(outer + (outer > 0)) * m.kh * m.kw * m.lanes",
     KERNELS),
    ("convolution: bias added once a chunk", OPS + "conv_dense.c",
     "outer > 0 ? s->zeros : s->bias", "s->bias", KERNELS),
    ("product: columns of the last panel not cut", OPS + "gemm_float.c",
     "const bool aside = columns % panel_columns() != 0 && !one_block;", "const bool aside = false;",
     KERNELS),
    ("bytes: a rest of the sum", K + "integer_scalar.c",
     "x[0] * w[2 * l] + x[1] * w[2 * l + 1]", "x[0] * w[2 * l] + x[1] * w[2 * l]", INTEGERS),
    ("bytes: the residual's zero point", K + "integer_scalar.c",
     "(float)(*residual - q->r_zero)", "(float)*residual", INTEGERS),
    ("bytes: rounding towards zero", K + "integer.inc",
     "(int32_t)rintf(a + b)", "(int32_t)(a + b)", INTEGERS),
    ("bytes: NaN", K + "integer.inc",
     "q = q > 0.0f ? q : 0.0f;", "q = q < 0.0f ? 0.0f : q;", INTEGERS),
]

# What is compiled to have a file in it: the level that is checked first.
COMPILED = {K + "integer.inc": K + "integer_scalar.c"}


def build(folder, path, text, check):
    """The check with text for the file at path, or None and what the compiler said."""
    copy = os.path.join(folder, path)
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    with open(copy, "w") as f:
        f.write(text)
    source = copy
    if path.endswith(".inc"):
        source = COMPILED.get(path, K + "scalar.c")
    program = os.path.join(folder, check)
    tests = [f"{B}/tests/{check}.o"]
    if check in (KERNELS, WINOGRAD):
        tests.append(f"{B}/tests/avx512_emulated.o")
    done = subprocess.run(
        [CC, "-std=c11", "-D_GNU_SOURCE", "-O1", "-DRT_COMPACT", "-fopenmp", "-ffp-contract=off",
         "-fPIC", "-w", f"-I{folder}", "-I.", f"-I{B}", "-o", program, source, *tests,
         f"{B}/libconvd.a", "-lprotobuf-c", "-lcmocka", "-lm"], capture_output=True, text=True)
    return (program, "") if done.returncode == 0 else (None, done.stderr)


def first_line(output):
    """What a check says first of what is wrong: its own words, or cmocka's; None: nothing."""
    for line in output.splitlines():
        if line.startswith(("FAILED", "a fault", "ERROR: ", "[  ERROR   ] ---")):
            return line
    return None


def judge(number, name, path, old, new, check):
    """None, or what is wrong."""
    with open(path) as f:
        text = f.read()
    if old not in text:
        return f"the text is not in {path}: {old!r}"
    program, said = build(f"build/mutants/{number}", path, text.replace(old, new) if old else text,
                          check)
    if program is None:
        return "does not compile:\n" + said
    try:
        # cmocka has its complaints on standard error.
        done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=600, env={**os.environ, "CHECK_STOP": "1"})
        failed, why = done.returncode != 0, first_line(done.stdout)
    except subprocess.TimeoutExpired:
        failed, why = True, "it does not end"
    if old == "":
        print(f"{name}: passes" if not failed else f"{name}: {why}", flush=True)
        return f"{check} fails on a file that was not changed" if failed else None
    if not failed:
        return f"{check} did not notice"
    if why is None:
        return f"{check} ended with status {done.returncode}, without a word"
    print(f"{name}: {why}", flush=True)
    return None


def main():
    names = sys.argv[1:]
    if names == ["--list"]:
        print("\n".join(m[0] for m in MUTANTS))
        return 0
    unknown = set(names) - {m[0] for m in MUTANTS}
    if unknown:
        print(f"there is no mutant {sorted(unknown)}", file=sys.stderr)
        return 2
    passed = failed = skipped = 0
    for i, m in enumerate(MUTANTS):
        if names and m[0] not in names:
            continue
        if m[-1] in SKIP:
            skipped += 1
            print(f"{m[0]}: {m[-1]} was left out")
            continue
        wrong = judge(i, *m)
        if wrong is None:
            passed += 1
        else:
            failed += 1
            print(f"{m[0]}: NOT CAUGHT: {wrong}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
