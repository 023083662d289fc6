"""A model made of a few nodes, run by convd."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from small_net import convd

TYPE = {np.dtype("f4"): TensorProto.FLOAT, np.dtype("f2"): TensorProto.FLOAT16,
        np.dtype("i8"): TensorProto.INT64, np.dtype("u1"): TensorProto.UINT8,
        np.dtype("?"): TensorProto.BOOL}


class Model:
    """A model of these nodes in a folder; feeds and outputs are {name: array}."""

    def __init__(self, folder, nodes, inputs, outputs, weights=(), opset=16):
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info(name, TYPE[np.dtype(t)], shape)
             for name, t, shape in inputs],
            [helper.make_tensor_value_info(name, TYPE[np.dtype(t)], None) for name, t in outputs],
            [numpy_helper.from_array(np.asarray(w), name) for name, w in weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 7
        self.folder, self.path = folder, folder / "model.onnx"
        self.outputs = [name for name, _ in outputs]
        onnx.save(model, str(self.path))

    def report(self):
        return json.loads(convd("inspect", self.path, "--json").stdout)

    def refusal(self):
        return convd("inspect", self.path, status=1).stderr

    def __call__(self, status=0, **feeds):
        args = []
        for name, array in feeds.items():
            np.save(self.folder / f"{name}.npy", array)
            args += ["--input", f"{name}={self.folder / name}.npy"]
        done = convd("run", self.path, *args, "--output", self.folder / "out", status=status)
        return done.stderr if status else [np.load(self.folder / "out" / f"{name}.npy")
                                           for name in self.outputs]


def pictures(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("f4")
