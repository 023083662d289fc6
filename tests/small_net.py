"""Small networks for tests: a model written node by node, its answers by the definition of each
operator in double precision, and convd to run it.

CONVD_BINARY names the binary (default: build/convd)."""

import itertools
import json
import os
import pathlib
import subprocess

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONVD = str(pathlib.Path(os.environ.get("CONVD_BINARY", ROOT / "build" / "convd")).resolve())
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("CONVD_")}


def convd(*args, status=0):
    done = subprocess.run([CONVD, *map(str, args)], capture_output=True, text=True, timeout=120,
                          env=ENVIRONMENT)
    assert done.returncode == status, done.stdout + done.stderr
    return done


# --- the definition --------------------------------------------------------------------------------


def windows(x, kernel, strides, pads, fill=0.0):
    """Yields (offset in the kernel, the elements under it for every position) of x [n, c, ...]."""
    rank = len(kernel)
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)],
               constant_values=fill)
    out = [(x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in range(rank)]
    for at in itertools.product(*map(range, kernel)):
        yield at, x[(..., *(slice(a, a + s * (o - 1) + 1, s)
                            for a, s, o in zip(at, strides, out)))]


def conv(x, w, b=None, *, strides=None, pads=None, group=1, **_):
    rank = w.ndim - 2
    strides, pads = strides or [1] * rank, pads or [0] * 2 * rank
    parts = []
    for xg, wg in zip(np.split(x, group, 1), np.split(w, group)):
        parts.append(sum(np.einsum("nc...,mc->nm...", part, wg[(..., *at)])
                         for at, part in windows(xg, w.shape[2:], strides, pads)))
    y = np.concatenate(parts, 1)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def conv_transpose(x, w, b=None, *, strides=(1, 1), group=1, **_):
    """As the convolution of x spread out by the stride with the flipped kernel."""
    spread = np.zeros((*x.shape[:2], *((s - 1) * f + 1 for s, f in zip(x.shape[2:], strides))))
    spread[..., ::strides[0], ::strides[1]] = x
    flipped = np.concatenate([g.swapaxes(0, 1) for g in np.split(w, group)])[..., ::-1, ::-1]
    kernel = w.shape[2:]
    return conv(spread, flipped, b, group=group, pads=[k - 1 for k in kernel] * 2)


def gemm(a, b, c=0.0, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    return alpha * (a.T if transA else a) @ (b.T if transB else b) + beta * c


def batchnorm(x, scale, bias, mean, var, *, epsilon=1e-5, spatial=1, **_):
    shape = (-1, *[1] * (x.ndim - 2)) if spatial else x.shape[1:]
    scale, bias, mean, var = (v.reshape(shape) for v in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + float(np.float32(epsilon))) * scale + bias


def pool(reduce, fill):
    def of(x, *, kernel_shape, strides=None, pads=None, **_):
        rank = len(kernel_shape)
        parts = windows(x, kernel_shape, strides or [1] * rank, pads or [0] * 2 * rank, fill)
        return reduce([part for _, part in parts], 0)
    return of


def join(operator):
    """Opset 6's broadcast along an axis, too."""
    def of(x, y, *, axis=None, broadcast=0):
        return operator(x, y.reshape(*y.shape, *[1] * (x.ndim - axis - y.ndim)) if broadcast else y)
    return of


DEFINITION = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": np.matmul,
    "BatchNormalization": batchnorm,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "MaxPool": pool(np.max, -np.inf),
    "AveragePool": pool(np.mean, 0.0),
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "Concat": lambda *x, axis: np.concatenate(x, axis),
    "Add": join(np.add),
    "Mul": join(np.multiply),
    "Reshape": lambda x, shape: x.reshape([x.shape[i] if d == 0 else int(d)
                                           for i, d in enumerate(shape)]),
    "Pad": lambda x, pads: np.pad(x, list(zip(pads[:x.ndim].astype(int),
                                              pads[x.ndim:].astype(int)))),
    "Flatten": lambda x: x.reshape(len(x), -1),
    "Transpose": lambda x, perm: x.transpose(perm),
}


# --- models ----------------------------------------------------------------------------------------


class Net:
    """A model of one input x; an operand that is an array becomes an initializer."""

    def __init__(self, *shape, opset=15, dtype=np.float32):
        self.shape, self.opset, self.dtype = shape, opset, np.dtype(dtype)
        self.random = np.random.default_rng(5)
        self.nodes, self.weights, self.outputs = [], {}, []

    def normal(self, *shape):
        return self.random.normal(size=shape).astype(self.dtype)

    def __call__(self, op, *operands, **attributes):
        names = []
        for o in operands:
            if isinstance(o, np.ndarray):
                names.append(f"w{len(self.weights)}")
                self.weights[names[-1]] = o
            else:
                names.append(o)
        made = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [made], made, **attributes))
        return made

    def conv(self, x, m, c, *kernel, bias=True, group=1, **attributes):
        kernel = kernel or (3, 3)
        w = self.normal(m, c // group, *kernel) / np.sqrt(c / group * np.prod(kernel))
        return self("Conv", x, w.astype(self.dtype), *([self.normal(m)] if bias else []),
                    group=group, **attributes)

    def norm(self, x, channels, *, scale=None, var=None, **attributes):
        if scale is None:
            scale = self.random.uniform(0.3, 2, channels) * self.random.choice([-1, 1], channels)
        if var is None:
            var = self.random.uniform(0.2, 3, channels)
        return self("BatchNormalization", x, np.asarray(scale).astype(self.dtype),
                    self.normal(channels), self.normal(channels),
                    np.asarray(var).astype(self.dtype), **attributes)

    def reference(self, x):
        """The outputs of the definition, in double precision."""
        known = {name: w.astype("f8") for name, w in self.weights.items()}
        known["x"] = x.astype("f8")
        for n in self.nodes:
            attributes = {a.name: helper.get_attribute_value(a) for a in n.attribute}
            known[n.output[0]] = DEFINITION[n.op_type](*(known[i] for i in n.input), **attributes)
        return [known[name] for name in self.outputs]

    def save(self, path, *outputs):
        self.outputs = list(outputs)
        kind = helper.np_dtype_to_tensor_dtype(self.dtype) if hasattr(
            helper, "np_dtype_to_tensor_dtype") else onnx.mapping.NP_TYPE_TO_TENSOR_TYPE[self.dtype]
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", kind, ["N", *self.shape])],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [numpy_helper.from_array(w, name) for name, w in self.weights.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 7
        onnx.save(model, str(path))
        return path

    def feed(self, batch):
        return np.random.default_rng(batch).normal(size=(batch, *self.shape)).astype(self.dtype)


def compare(folder, net, outputs, tolerance):
    """Runs two batches and compares with the definition; inspect's batch norm report."""
    path = net.save(folder / "model.onnx", *outputs)
    for batch in (1, 3):
        x = net.feed(batch)
        np.save(folder / "x.npy", x)
        convd("run", path, "--input", folder / "x.npy", "--output", folder / "out",
              "--threads", 1)
        for name, want in zip(outputs, net.reference(x)):
            got = np.load(folder / "out" / f"{name}.npy")
            assert got.shape == want.shape and got.dtype == net.dtype
            error = np.abs(got - want).max() / max(np.ptp(want), np.abs(want).max())
            assert error <= tolerance, f"{name} at batch {batch}: {error:.2g} of the range"
    return json.loads(convd("inspect", path, "--json").stdout)["batchnorms"]
