#!/usr/bin/python3
"""Writes an 8-bit form of a convolutional network: an ONNX file of floats becomes one whose
convolutions and fully connected layers, and what lies between them, work on bytes.

Ranges are taken from the numbers that convd itself computes for some pictures: random ones, or
those of a file. Batch norms are folded into the weights first."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLAMPS = ("Relu", "Clip")
#: What gives bytes of the scale that it reads.
SAME_SCALE = ("MaxPool", "Flatten", "Reshape")
QUANTISED = ("Conv", "Gemm", "Add", "GlobalAveragePool", "AveragePool") + SAME_SCALE + CLAMPS


class Failure(Exception):
    """What is said to the user."""


class Graph:
    """A graph being rewritten: nodes in order, constants by name."""

    def __init__(self, model):
        self.model = model
        self.nodes = []
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                value = helper.get_attribute_value(node.attribute[0])
                self.constants[node.output[0]] = (
                    numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value))
            else:
                self.nodes.append(node)
        self.outputs = [o.name for o in model.graph.output]
        self.inputs = [i.name for i in model.graph.input if i.name not in self.constants]

    def readers(self, value):
        return [n for n in self.nodes if value in n.input]

    def only_reader(self, value):
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def save(self, path, nodes=None, outputs=None):
        old = self.model.graph
        nodes = self.nodes if nodes is None else nodes
        used = {i for n in nodes for i in n.input}
        graph = helper.make_graph(
            nodes, old.name, [i for i in old.input if i.name in self.inputs],
            list(old.output) if outputs is None else outputs,
            [numpy_helper.from_array(np.array(v, order="C"), k)
             for k, v in self.constants.items() if k in used])
        model = helper.make_model(graph, producer_name="convd quantise.py",
                                  opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = min(self.model.ir_version, 8)
        if outputs is None: # others have no shapes, which the checker wants
            onnx.checker.check_model(model)
        onnx.save(model, path)


def attribute(node, name, default=None):
    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def fold_batch_norms(graph):
    """Conv then BatchNormalization: one Conv."""
    kept = []
    made_by = {n.output[0]: n for n in graph.nodes}
    renamed = {}
    for node in graph.nodes:
        before = made_by.get(node.input[0])
        if node.op_type != "BatchNormalization" or before is None or before.op_type != "Conv" \
                or graph.only_reader(node.input[0]) is not node:
            kept.append(node)
            continue
        scale, shift, mean, var = (graph.constants[i].astype(np.float64) for i in node.input[1:5])
        gain = scale / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        w = graph.constants[before.input[1]]
        b = graph.constants[before.input[2]] if len(before.input) > 2 else 0.0
        names = [before.output[0] + ".weight", before.output[0] + ".bias"]
        graph.constants[names[0]] = (w * gain.reshape(-1, *[1] * (w.ndim - 1))).astype(np.float32)
        graph.constants[names[1]] = ((b - mean) * gain + shift).astype(np.float32)
        inputs = [before.input[0], *names]
        del before.input[:]
        before.input.extend(inputs)
        renamed[node.output[0]] = before.output[0]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    graph.nodes = kept


def points(graph):
    """The values that are quantised: the inputs, and what is made of quantised values, where no
    clamp follows that can have the last word."""
    values = list(graph.inputs)
    for node in graph.nodes:
        if node.op_type not in QUANTISED:
            continue
        after = graph.only_reader(node.output[0])
        if node.op_type in ("Conv", "Add", "Gemm") and after is not None and after.op_type in CLAMPS:
            continue
        values.append(node.output[0])
    return values


def ranges(graph, values, x, convd):
    """Smallest and largest element of each value, as convd computes it."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = [v for v in values if v not in graph.inputs]
        names = {v: f"t{i}" for i, v in enumerate(made)}
        extra = [helper.make_node("Identity", [v], [names[v]]) for v in made]
        graph.save(folder / "model.onnx", graph.nodes + extra,
                   [helper.make_tensor_value_info(names[v], TensorProto.FLOAT, None) for v in made])
        np.save(folder / "x.npy", x)
        subprocess.run([convd, "run", folder / "model.onnx", "--input", folder / "x.npy", "--output",
                        folder / "out"], check=True, stdout=subprocess.DEVNULL)
        found = {graph.inputs[0]: (float(x.min()), float(x.max()))}
        for v, name in names.items():
            y = np.load(folder / "out" / f"{name}.npy", mmap_mode="r")
            found[v] = (float(y.min()), float(y.max()))
    return found


def byte_scale(low, high):
    """Scale and zero point of bytes that reach from low to high and have a zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


class Writer:
    """Makes the quantised nodes of a graph."""

    def __init__(self, graph, found):
        self.graph, self.found = graph, found
        self.nodes = []
        self.scale = {}  # of values that are quantised: names of scale and zero point, and numbers

    def constant(self, name, value):
        self.graph.constants[name] = value
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output} {op}", **attributes))

    def set_scale(self, value, like=None):
        if like is not None:
            self.scale[value] = self.scale[like]
            return
        scale, zero = byte_scale(*self.found[value])
        self.scale[value] = (self.constant(f"{value} scale", scale),
                             self.constant(f"{value} zero", np.uint8(zero)), scale)

    def quantise(self, value):
        self.node("QuantizeLinear", [value, *self.scale[value][:2]], f"{value} q")

    def real(self, value, suffix=" r"):
        """The real form of quantised value, made anew for each reader, as exporters do."""
        name = f"{value}{suffix}{len(self.nodes)}"
        self.node("DequantizeLinear", [f"{value} q", *self.scale[value][:2]], name)
        return name

    def weights_by_map(self, name, w, axis):
        """Signed, a scale for each map, without zero points."""
        most = np.abs(w).max(axis=tuple(i for i in range(w.ndim) if i != axis))
        scale = np.where(most > 0, most / 127, 1).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(w.ndim)]
        q = np.clip(np.rint(w / scale.reshape(shape)), -127, 127).astype(np.int8)
        return (self.constant(f"{name} q", q), self.constant(f"{name} scale", scale),
                self.constant(f"{name} zero", np.zeros(len(scale), np.int8))), scale

    def weights_as_one(self, name, w):
        """Bytes, one scale and zero point."""
        scale, zero = byte_scale(w.min(), w.max())
        q = np.clip(np.rint(w / scale) + zero, 0, 255).astype(np.uint8)
        return (self.constant(f"{name} q", q), self.constant(f"{name} scale", scale),
                self.constant(f"{name} zero", np.uint8(zero))), scale

    def bias(self, name, b, x_scale, w_scale):
        scale = (np.float32(x_scale) * w_scale * np.ones(len(b), np.float32)).astype(np.float32)
        q = np.clip(np.rint(b / scale.astype(np.float64)), -2**31, 2**31 - 1).astype(np.int32)
        return self.constant(f"{name} q", q), self.constant(f"{name} scale", scale)


def write_qdq(writer, node, target):
    """The node between DequantizeLinear and QuantizeLinear; target: the value that is quantised."""
    graph, inputs = writer.graph, []
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
    for i, name in enumerate(node.input):
        if node.op_type in ("Conv", "Gemm") and i == 1:
            names, w_scale = writer.weights_by_map(node.output[0] + " w", graph.constants[name], axis)
            inputs.append(f"{node.output[0]} w r")
            writer.node("DequantizeLinear", names, inputs[-1], axis=axis)
        elif node.op_type in ("Conv", "Gemm") and i == 2:
            x_scale = writer.scale[node.input[0]][2]
            names = writer.bias(node.output[0] + " b", graph.constants[name], x_scale, w_scale)
            inputs.append(f"{node.output[0]} b r")
            writer.node("DequantizeLinear", names, inputs[-1], axis=0)
        else:
            inputs.append(writer.real(name) if name in writer.scale else name)
    made = helper.make_node(node.op_type, inputs, node.output, node.name)
    made.attribute.extend(node.attribute)
    writer.nodes.append(made)
    if node.output[0] == target:
        writer.quantise(target)


def write_qlinear(writer, node, target):
    """A convolution on bytes; a clamp behind it is the end of their range. A Gemm is one of 1x1."""
    graph = writer.graph
    w = graph.constants[node.input[1]]
    x = node.input[0]
    if node.op_type == "Gemm":
        w = w if attribute(node, "transB", 0) else w.T
        w = w.reshape(*w.shape, 1, 1)
    names, w_scale = writer.weights_as_one(node.output[0] + " w", w)
    b = graph.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(w))
    bias, _ = writer.bias(node.output[0] + " b", b, writer.scale[x][2], w_scale)
    made = f"{target} q" if node.op_type == "Conv" else f"{target} q pixel"
    source = f"{x} q"
    if node.op_type == "Gemm":
        axes = writer.constant("spatial axes", np.array([2, 3], np.int64))
        writer.node("Unsqueeze", [source, axes], f"{source} pixel")
        source = f"{source} pixel"
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute
                  if node.op_type == "Conv"}
    writer.node("QLinearConv", [source, *writer.scale[x][:2], *names, *writer.scale[target][:2], bias],
                made, **attributes)
    if node.op_type == "Gemm":
        writer.node("Flatten", [made], f"{target} q")


def is_quantised(writer, node):
    """Whether everything is there to do the node in bytes."""
    constant = {"Conv": (1, 2), "Gemm": (1, 2), "Clip": (1, 2), "Reshape": (1,)}.get(node.op_type, ())
    plain = node.op_type != "Gemm" or (attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
                                       and not attribute(node, "transA", 0))
    return plain and node.op_type in QUANTISED and all(
        (name in writer.graph.constants) if i in constant else (name in writer.scale)
        for i, name in enumerate(node.input) if name)


def quantise(graph, x, convd, style):
    """Rewrites the graph's nodes."""
    fold_batch_norms(graph)
    values = points(graph)
    writer = Writer(graph, ranges(graph, values, x, convd))
    for value in graph.inputs:
        writer.set_scale(value)
        writer.quantise(value)
    inside = {}  # a value that is clamped before it is quantised: its node
    for node in graph.nodes:
        before = inside.pop(node.input[0], None)
        target = node.output[0]
        if before is None and not is_quantised(writer, node):
            made = helper.make_node(node.op_type, [writer.real(i) if i in writer.scale else i
                                                   for i in node.input], node.output, node.name)
            made.attribute.extend(node.attribute)
            writer.nodes.append(made)
            continue
        if target not in values:
            inside[target] = node
            if style == "qdq" or node.op_type == "Add":
                write_qdq(writer, node, target=None)
            continue
        same = node.op_type in SAME_SCALE and before is None
        writer.set_scale(target, node.input[0] if same else None)
        whole = before if before is not None else node
        if style == "qlinear" and whole.op_type in ("Conv", "Gemm"):
            write_qlinear(writer, whole, target)
        else:
            write_qdq(writer, node, target)
    for name in graph.outputs:
        if name in writer.scale:
            # A node may have made the output's name already: what it is quantised to has the last word.
            for n in writer.nodes:
                for names in (n.input, n.output):
                    for i, v in enumerate(names):
                        if v == name:
                            names[i] = f"{name} real"
            writer.node("DequantizeLinear", [f"{name} q", *writer.scale[name][:2]], name)
    graph.nodes = writer.nodes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path, help="an ONNX file of opset 13 with one input")
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--style", choices=("qdq", "qlinear"), default="qdq",
                        help="qdq: signed weights with a scale for each map, QuantizeLinear and "
                             "DequantizeLinear around the operators (the default); qlinear: unsigned "
                             "weights with one scale, QLinearConv")
    parser.add_argument("--pictures", metavar="FILE.npy",
                        help="inputs to take ranges from (default: random ones)")
    parser.add_argument("--count", type=int, default=4, help="of random pictures (default: 4)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--convd", default="build/convd", help="the binary (default: build/convd)")
    options = parser.parse_args()
    try:
        model = onnx.load(options.model)
        graph = Graph(model)
        if len(graph.inputs) != 1:
            raise Failure(f"{options.model} has {len(graph.inputs)} inputs, not one")
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        if opset != 13:
            raise Failure(f"{options.model} is of opset {opset}, not 13")
        if options.pictures:
            x = np.load(options.pictures).astype(np.float32)
        else:
            dims = [d.dim_value or options.count
                    for d in model.graph.input[0].type.tensor_type.shape.dim]
            x = np.random.default_rng(options.seed).standard_normal(dims).astype(np.float32)
        quantise(graph, x, options.convd, options.style)
        graph.save(options.output)
    except (Failure, OSError, subprocess.CalledProcessError) as e:
        print(f"quantise.py: {e}", file=sys.stderr)
        return 1
    ops = [n.op_type for n in graph.nodes]
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, "
          f"{ops.count('QLinearConv')} QLinearConv, {ops.count('QuantizeLinear')} QuantizeLinear")
    return 0


if __name__ == "__main__":
    sys.exit(main())
