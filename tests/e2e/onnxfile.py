"""ONNX files of a few nodes, written byte by byte so that no ONNX package is needed."""

import numpy as np

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64 = 1, 2, 3, 4, 5, 6, 7
BOOL, FLOAT16, DOUBLE, UINT32, UINT64 = 9, 10, 11, 12, 13


def _varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def value_info(name, elem_type, shape):
    """shape holds numbers, and strings for what is free."""
    dims = b"".join(_bytes(1, _bytes(2, d) if isinstance(d, str) else _int(1, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, elem_type) + _bytes(2, dims)))


def integer(name, value):
    """An attribute that is an integer."""
    return _bytes(1, name) + _int(3, value) + _int(20, 2)


def ints(name, *values):
    """An attribute that is a list of integers."""
    return _bytes(1, name) + b"".join(_int(8, v) for v in values) + _int(20, 7)


def node(op, inputs, outputs, *attributes):
    return (b"".join(_bytes(1, i) for i in inputs) + b"".join(_bytes(2, o) for o in outputs)
            + _bytes(4, op) + b"".join(_bytes(5, a) for a in attributes))


def floats(name, array):
    """A float initializer."""
    array = np.asarray(array, np.float32)
    return (b"".join(_int(1, d) for d in array.shape) + _int(2, FLOAT) + _bytes(8, name)
            + _bytes(9, array.tobytes()))


def model(nodes, inputs, outputs, initializers=(), opset=17):
    graph = (b"".join(_bytes(1, n) for n in nodes) + _bytes(2, "test")
             + b"".join(_bytes(5, i) for i in initializers)
             + b"".join(_bytes(11, i) for i in inputs) + b"".join(_bytes(12, o) for o in outputs))
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _int(2, opset))
