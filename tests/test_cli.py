"""The command line, end to end: every command on models made here, and every way to get it wrong.

CONVD_BINARY names the binary (default: build/convd)."""

import csv
import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import socket
import struct
import subprocess
import termios
import threading
import time
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONVD = str(pathlib.Path(os.environ.get("CONVD_BINARY", ROOT / "build" / "convd")).resolve())
COMMANDS = ["serve", "predict", "run", "test", "inspect", "bench", "tune", "completion", "man"]


ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("CONVD_")}


def convd(*args, status=0, cwd=None):
    done = subprocess.run([CONVD, *map(str, args)], capture_output=True, text=True, timeout=120,
                          cwd=cwd, env=ENVIRONMENT)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def error_of(*args, status):
    """The one line that a failing command leaves on standard error."""
    done = convd(*args, status=status)
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    return done.stderr


def save(path, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs,
                              [numpy_helper.from_array(w, name) for name, w in weights])
    model = helper.make_model(graph, producer_name="test",
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def conv(data):
    """Conv, BatchNormalization, Relu, and a sum over the picture; the scale is 2, the shift 1."""
    w = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype("f4")
    one, zero = np.ones(4, "f4"), np.zeros(4, "f4")
    return save(
        data / "conv" / "model.onnx",
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "two", "one", "zero", "one"], ["b"], "bn",
                             epsilon=0.0),
            helper.make_node("Relu", ["b"], ["scope/y:0"], "relu"),
        ],
        [value("x", ["N", 3, 5, 5])], [value("scope/y:0", ["N", 4, 5, 5])],
        [("w", w), ("two", 2 * one), ("one", one), ("zero", zero)])


@pytest.fixture(scope="session")
def add(data):
    return save(data / "add.onnx", [helper.make_node("Sub", ["a", "b"], ["y"])],
                [value("a", [2, 3]), value("b", [2, 3])], [value("y", [2, 3])])


@pytest.fixture(scope="session")
def colours(data):
    """Says which of red, green and blue a picture holds most of."""
    path = save(data / "colours" / "model.onnx",
                [helper.make_node("GlobalAveragePool", ["x"], ["p"]),
                 helper.make_node("Flatten", ["p"], ["y"])],
                [value("x", ["N", 3, 8, 8])], [value("y", ["N", 3])])
    (path.parent / "labels.txt").write_text("red\ngreen\nblue\n")
    return path.parent


def test_no_command():
    assert "convd serve" in error_of(status=2)


def test_version_and_help():
    assert convd("--version").stdout.startswith("convd ")
    text = convd("--help").stdout
    for command in COMMANDS:
        assert f"convd {command}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each(command):
    text = convd(command, "--help").stdout
    assert text.startswith(f"Usage: convd {command}")
    assert f"  convd {command} " in text[text.index("Example"):]
    assert convd("help", command).stdout == text


def test_typos():
    assert "did you mean 'inspect'" in error_of("inspct", "x", status=2)
    assert "convd serve net.onnx" in error_of("net.onnx", status=2)
    assert "did you mean --json" in error_of("inspect", "--jsno", "x", status=2)
    assert "did you mean --top" in error_of("predict", "--topp", "3", "x", status=2)
    assert "did you mean --batchnorm" in error_of("bench", "--batch-norm", "folded", "x", status=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_typo_in_a_flag(command):
    error = error_of(command, "--hlep", "--nothing-like-it", "x", status=2)
    assert error.startswith(f"convd {command}: unknown option --hlep")
    assert f"see convd {command} --help" in error


@pytest.mark.parametrize("args", [
    ["serve", "--port", "-1"], ["serve", "--threads", "-2"], ["serve", "--max-batch", "-1"],
    ["serve", "--max-queue", "-5"], ["serve", "--max-connections", "-1"],
    ["serve", "--max-body", "-1"], ["serve", "--queue-timeout", "-1"],
    ["predict", "m", "x", "--top", "-1"], ["predict", "m", "x", "-t", "-1"],
    ["run", "m", "-t", "-1"], ["run", "m", "--max-model-memory", "-1"], ["test", "d", "-t", "-1"],
    ["test", "d", "--rtol", "-1"], ["inspect", "m", "--max-batch", "-8"],
    ["bench", "m", "--batch", "-1"], ["bench", "m", "--batch", "1,-2"],
    ["bench", "m", "--threads=-1"], ["bench", "m", "--seconds", "-1"],
])
def test_negative_numbers(args):
    error = error_of(*args, status=2)
    assert "-" + re.search(r"-(\d)$", args[-1]).group(1) in error or "between" in error


@pytest.mark.parametrize("args", [
    ["predict"], ["predict", "m.onnx"], ["run"], ["run", "m.onnx"], ["test"], ["inspect"],
    ["inspect", "a", "b"], ["bench"], ["bench", "m", "--batch", "0"],
    ["bench", "m", "--batch", "1,"], ["bench", "m", "--batchnorm", "fold"],
    ["test", "d", "--rtol", "x"], ["predict", "m", "--top", "0"], ["help", "nothing"],
])
def test_wrong_usage(args):
    assert error_of(*args, status=2).startswith("convd")


def test_numbers_of_options(conv):
    for text in "999999999999999T", "9999999999999999999999":
        error = error_of("serve", "--max-body", text, status=2)
        assert text in error and "too large" in error
    assert "at least" in error_of("serve", "--max-body", "0", status=2)
    convd("bench", conv, "--seconds", ".01", "--batch", "1", "--threads", "1")
    for text in ".", "-.", ".x", "..1", "0x1":
        assert text in error_of("bench", conv, "--seconds", text, status=2)


@pytest.mark.parametrize("command, tail", [
    ("predict", ["x.jpg"]), ("run", ["-i", "x.npy", "-o", "out"]), ("inspect", []), ("bench", []),
])
def test_empty_path(command, tail):
    assert "path is empty" in error_of(command, "", *tail, status=1)


@pytest.mark.parametrize("command, tail", [
    ("predict", ["x.jpg"]), ("run", ["-i", "x.npy", "-o", "out"]), ("inspect", []), ("bench", []),
])
def test_no_model(command, tail, tmp_path):
    picture = tmp_path / "picture.onnx"
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    assert "nowhere.onnx" in error_of(command, "nowhere.onnx", *tail, status=1)
    assert "JPEG" in error_of(command, picture, *tail, status=1)
    assert "model" in error_of(command, tmp_path / "empty", *tail, status=1)
    os.mkfifo(tmp_path / "fifo.onnx")
    assert "regular file" in error_of(command, tmp_path / "fifo.onnx", *tail, status=1)


def test_nothing_to_test(tmp_path):
    assert "nowhere" in error_of("test", tmp_path / "nowhere", status=1)
    (tmp_path / "test_picture").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "test_picture" / "model.onnx", "JPEG")
    done = convd("test", tmp_path, status=1)
    assert "JPEG" in done.stdout and done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("option", ["--config", "--tls-cert", "--api-keys", "--control-keys"])
def test_serve_with_a_file_that_is_missing(conv, option):
    more = ["--tls-key", "nowhere.pem"] if option == "--tls-cert" else []
    more += ["--model-control"] if option == "--control-keys" else []
    assert "nowhere.pem" in error_of("serve", conv, "--port", "0", "--log-level", "error", option,
                                     "nowhere.pem", *more, status=2 if option == "--config" else 1)


def conv_reference(path, x):
    w = numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0]).astype("f8")
    n, _, height, width = x.shape
    padded = np.pad(x.astype("f8"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((n, 4, height, width))
    for i in range(3):
        for j in range(3):
            y += np.einsum("nchw,kc->nkhw", padded[:, :, i:i + height, j:j + width], w[:, :, i, j])
    return np.maximum(2 * y + 1, 0)


@pytest.mark.parametrize("batch", [1, 3, 11])
def test_run(conv, tmp_path, batch):
    x = np.random.default_rng(batch).normal(size=(batch, 3, 5, 5)).astype("f4")
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    done = convd("run", conv, "--input", tmp_path / "x.npy", "--output", tmp_path / "a" / "b")
    assert f"float [{batch},4,5,5]" in done.stdout
    y = np.load(tmp_path / "a" / "b" / "scope_y_0.npy")
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, conv_reference(conv, x), rtol=1e-4, atol=1e-5)


def test_run_inputs_by_name_and_order(add, tmp_path):
    a, b = np.full((2, 3), 5, "f4"), np.full((2, 3), 2, "f4")
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b=1.npy", b)
    (tmp_path / "b.pb").write_bytes(numpy_helper.from_array(b, "b").SerializeToString())
    (tmp_path / "c.pb").write_bytes(numpy_helper.from_array(b, "other").SerializeToString())
    for inputs in (["a.npy", "b=1.npy"], ["b.pb", "a.npy"], ["a.npy", "c.pb"],
                   ["b=c.pb", "a.npy"], ["b=b=1.npy", "a=a.npy"]):
        flags = [flag for name in inputs for flag in ("--input", name)]
        convd("run", add, *flags, "--output", "out", cwd=tmp_path)
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), a - b)


def test_run_refuses(add, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), "f4"))
    np.save(tmp_path / "i.npy", np.zeros((2, 3), "i4"))
    np.save(tmp_path / "s.npy", np.zeros((2, 4), "f4"))
    (tmp_path / "broken.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:100])
    (tmp_path / "x.txt").write_text("1 2 3")

    def error(*inputs):
        flags = [flag for name in inputs for flag in ("--input", name)]
        return error_of("run", add, *flags, "--output", tmp_path / "out", status=1)

    a = tmp_path / "a.npy"
    assert "input b is missing" in error(a)
    assert "3 tensors" in error(a, a, a)
    assert "no input of that name, only a, b" in error(f"q={a}")
    assert "header" in error(tmp_path / "broken.npy", a)
    assert ".npy or .pb" in error(tmp_path / "x.txt", a)
    assert "nothing.npy" in error(tmp_path / "nothing.npy", a)
    assert "int32" in error(a, tmp_path / "i.npy")
    assert "[2,4]" in error(a, tmp_path / "s.npy")
    assert not (tmp_path / "out").exists()


def add_set(folder, inputs, outputs, number=0):
    place = folder / f"test_data_set_{number}"
    place.mkdir(parents=True, exist_ok=True)
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for i, (name, array) in enumerate(tensors):
            proto = numpy_helper.from_array(np.asarray(array), name)
            (place / f"{kind}_{i}.pb").write_bytes(proto.SerializeToString())


def relu_test(folder, x, y, number=0, op="Relu"):
    x, y = np.asarray(x), np.asarray(y)
    kind = helper.mapping.NP_TYPE_TO_TENSOR_TYPE
    save(folder / "model.onnx", [helper.make_node(op, ["x"], ["y"], "the_node")],
         [value("x", x.shape, kind[x.dtype])], [value("y", x.shape, kind[x.dtype])])
    add_set(folder, [("x", x)], [("y", y)], number)


def f4(*values):
    return np.array(values, "f4")


def test_test_passes_and_fails(tmp_path):
    relu_test(tmp_path / "in" / "test_good", f4(-1, 2, np.nan, np.inf), f4(0, 2, np.nan, np.inf))
    relu_test(tmp_path / "in" / "deeper" / "test_wrong", f4(-1, 2, 4), f4(0, 2, 5))
    relu_test(tmp_path / "in" / "test_shape", f4(1, 2), np.ones((1, 2), "f4"))
    relu_test(tmp_path / "in" / "test_type", f4(1, 2), np.array([1, 2], "f8"))
    relu_test(tmp_path / "in" / "test_nan", f4(1), f4(np.nan))
    relu_test(tmp_path / "in" / "test_unknown", f4(1), f4(1), op="NoSuchOperator")
    (tmp_path / "in" / "test_broken").mkdir()
    (tmp_path / "in" / "test_broken" / "model.onnx").write_bytes(b"\xff" * 100)
    relu_test(tmp_path / "in" / "test_second_set", f4(1), f4(1))
    relu_test(tmp_path / "in" / "test_second_set", f4(3), f4(4), 1)

    done = convd("test", tmp_path / "in", status=1)
    lines = {line.split(":")[0]: line for line in done.stdout.splitlines()}
    assert "FAIL test_wrong" in lines, done.stdout
    wrong = lines["FAIL test_wrong"]
    assert "output y[2] is 4.0, wanted 5.0" in wrong and "1 absolute, 0.2 relative" in wrong
    assert "the shape is [2], wanted [1,2]" in lines["FAIL test_shape"]
    assert "the type is float, wanted double" in lines["FAIL test_type"]
    assert "wanted NaN" in lines["FAIL test_nan"]
    assert "NoSuchOperator" in lines["skip test_unknown"]
    assert "test_data_set_1" in lines["FAIL test_second_set"]
    assert "FAIL test_broken" in lines and "ok   test_good" in lines
    assert done.stdout.splitlines()[-1] == "1 passed, 6 failed, 1 skipped"

    report = json.loads(convd("test", tmp_path / "in", "--json", status=1).stdout)
    assert [report[k] for k in ("passed", "failed", "skipped")] == [1, 6, 1]
    result = {t["name"]: t for t in report["tests"]}
    assert result["test_good"]["result"] == "passed" and "reason" in result["test_wrong"]

    done = convd("test", tmp_path / "in", "--filter", "test_g*", "--filter", "test_unknown")
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"
    assert "no test of that name" in error_of("test", tmp_path / "in", "--filter", "x", status=1)
    convd("test", tmp_path / "in" / "deeper", "--atol", "1.1")


def test_test_judges_models_by_range(tmp_path):
    """A model of more than 3 nodes may be off by 1e-4 of its output's range, a smaller one not."""
    for n, status in ((3, 1), (4, 0)):
        folder = tmp_path / f"net{n}"
        names = ["x", *(f"v{i}" for i in range(1, n)), "y"]
        save(folder / "model.onnx",
             [helper.make_node("Neg", [names[i]], [names[i + 1]]) for i in range(n)],
             [value("x", [3])], [value("y", [3])])
        x = f4(0, 1000, 1)
        y = x if n % 2 == 0 else -x
        add_set(folder, [("x", x)], [("y", y + f4(0, 0, 0.05))])
        done = convd("test", folder, status=status)
        if status == 0:
            assert "5e-05 of the output's range" in done.stdout
        convd("test", folder, "--range-tol", "1e-6", status=1)


def test_test_inputs_by_name(add, tmp_path):
    folder = tmp_path / "test_sub"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(add.read_bytes())
    a, b = np.full((2, 3), 5, "f4"), np.full((2, 3), 2, "f4")
    add_set(folder, [("b", b), ("a", a)], [("y", a - b)])
    convd("test", folder)
    add_set(folder, [("p", a), ("q", b)], [("r", a - b)])
    convd("test", folder)


def test_inspect(conv):
    text = convd("inspect", conv.parent).stdout
    for heading in ("Memory", "Inputs and outputs", "Layers", "Batch norms"):
        assert f"\n{heading}\n" in text
    assert "[N,3,5,5]" in text and "\x1b" not in text
    report = json.loads(convd("inspect", conv, "--json").stdout)
    assert report["opset"] == 13 and report["nodes"] == 3 and report["max_batch"] == 8
    assert report["inputs"] == [{"name": "x", "datatype": "float", "shape": [-1, 3, 5, 5]}]
    (bn,) = report["batchnorms"]
    assert bn["name"] == "bn" and bn["channels"] == 4 and bn["into"] == "conv"
    assert bn["placement"] == "Conv -> BatchNormalization -> Relu"
    assert len([layer for layer in report["layers"] if layer["op"] == "Conv"]) == 1
    # 5x5 outputs of 4 channels, 27 multiply-adds each, less or more what the epilogue is counted as
    assert 25 * 4 * 27 * 2 <= report["flops"] < 25 * 4 * 30 * 2
    separate = json.loads(convd("inspect", conv, "--json", "--batchnorm", "separate").stdout)
    assert len(separate["layers"]) > len(report["layers"])


def test_inspect_says_which_layer_reads_which(data):
    """A residual block of two inputs: layers are counted from 0, the model's inputs are -1."""
    w = np.random.default_rng(1).normal(size=(4, 4, 3, 3)).astype("f4")

    def conv(x, y):
        return helper.make_node("Conv", [x, "w"], [y], y, pads=[1, 1, 1, 1])
    model = save(data / "edges.onnx",
                 [conv("x", "a"), conv("a", "b"), conv("b", "c"), conv("z", "d"),
                  helper.make_node("Add", ["c", "a"], ["s"]), helper.make_node("Add", ["s", "d"], ["y"])],
                 [value("x", ["N", 4, 5, 5]), value("z", ["N", 4, 5, 5])], [value("y", ["N", 4, 5, 5])],
                 [("w", w)])
    layers = json.loads(convd("inspect", model, "--json").stdout)["layers"]
    for i, layer in enumerate(layers):
        assert layer["from"] == sorted(set(layer["from"])) and max(layer["from"]) < i

    def sources(name):
        """The file's nodes that it reads, whatever layout their results are brought to on the way."""
        found = set()
        todo = list(next(layer for layer in layers if layer["name"] == name)["from"])
        while todo:
            k = todo.pop()
            known = k < 0 or layers[k]["name"] in "abcdsy"
            found.update(["input" if k < 0 else layers[k]["name"]] if known else [])
            todo += [] if known else layers[k]["from"]
        return found
    assert sources("a") == {"input"} and sources("b") == {"a"}
    # A sum is computed by its second convolution.
    assert sources("c") == {"a", "b"} and sources("d") == {"input", "c"}
    everything = set().union(*(layer["from"] for layer in layers))
    assert everything == {-1, *range(len(layers) - 1)}


def test_inspect_on_a_terminal(conv):
    """Colour, and lines no wider than the terminal."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([CONVD, "inspect", conv], stdout=end, env=environment) as process:
        os.close(end)
        text = b""
        try:
            while part := os.read(main, 65536):
                text += part
        except OSError:  # how a terminal says that nobody writes any more
            pass
    os.close(main)
    assert process.returncode == 0
    lines = text.decode().replace("\r", "").splitlines()
    assert any(line.startswith("\x1b[1m") for line in lines)
    plain = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines]
    assert "Batch norms" in plain and max(map(len, plain)) <= 100
    assert any("\u2026" in line for line in plain)


@pytest.fixture
def winograd(tmp_path):
    """Two layers that have a choice, and one that has none."""
    rng = np.random.default_rng(1)

    def weights(*shape):
        return rng.standard_normal(shape).astype(np.float32) / 24
    nodes = [helper.make_node("Conv", ["x", "a"], ["p"], name="first", pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["p", "b"], ["q"], name="in the middle", pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["q", "c"], ["y"], name="last")]
    return save(tmp_path / "winograd" / "model.onnx", nodes, [value("x", ["n", 64, 32, 32])],
                [value("y", ["n", 8, 32, 32])],
                [("a", weights(64, 64, 3, 3)), ("b", weights(64, 64, 3, 3)),
                 ("c", weights(8, 64, 1, 1))])


def tuning(model, *lines, isa=None, signature=None, version=1):
    report = json.loads(convd("inspect", model, "--json").stdout)
    text = [f"convd tuning {version}", f"isa {isa or report['isa']}",
            f"model {signature or report['signature']}", *lines]
    pathlib.Path(f"{model}.tune").write_text("".join(line + "\n" for line in text))


def algorithms(model, *args):
    report = json.loads(convd("inspect", model, "--json", *args).stdout)
    return report, [layer["algorithm"].split(" ", 1) for layer in report["layers"]
                    if layer["op"] == "Conv"]


def answer(model, folder):
    np.save(folder / "x.npy", np.random.default_rng(2).standard_normal(
        (2, 64, 32, 32)).astype(np.float32))
    convd("run", model, "--input", folder / "x.npy", "--output", folder / "out")
    return np.load(folder / "out" / "y.npy")


def test_tuning_file(winograd, tmp_path):
    report, guess = algorithms(winograd)
    assert report["tuned_layers"] == 0 and report["tuning_note"] is None
    assert guess[0][0] == guess[1][0] == "winograd" and guess[2][0] == "direct"
    before = answer(winograd, tmp_path)
    tuning(winograd, "winograd F(2x2) first", "direct in the middle")
    report, chosen = algorithms(winograd)
    assert report["tuned_layers"] == 2 and report["tuning_note"] is None
    assert chosen[0] == ["winograd", "F(2x2)"] and chosen[1][0] == "direct"
    tuned = answer(winograd, tmp_path)
    assert tuned.tobytes() == answer(winograd, tmp_path).tobytes()
    assert tuned.tobytes() != before.tobytes() and np.allclose(tuned, before, rtol=1e-3, atol=1e-4)
    assert "2 layers as its .tune file says" in convd("inspect", winograd).stdout
    report, exact = algorithms(winograd, "--exact")
    assert report["tuned_layers"] == 0 and all(a[0] == "direct" for a in exact)


@pytest.mark.parametrize("head,reason", [
    ({"isa": "sse9"}, "measured with sse9 kernels"),
    ({"signature": "0123456789abcdef"}, "measured on another model"),
    ({"version": 2}, "another version")])
def test_tuning_file_of_others(winograd, head, reason):
    guess = algorithms(winograd)[1]
    tuning(winograd, "direct first", **head)
    report, chosen = algorithms(winograd)
    assert chosen == guess and report["tuned_layers"] == 0 and reason in report["tuning_note"]
    assert reason in convd("inspect", winograd).stdout


@pytest.mark.parametrize("lines,error", [
    (["direct nothing"], "line 4: 'direct nothing' names no node"),
    (["winograd F(6x6) first"], "line 4: 'winograd F(6x6) first'"),
    (["direct first", "direct last"], "line 5: 'direct last'"),
    (["", "direct first"], "line 4: ''")])
def test_wrong_tuning_file(winograd, lines, error):
    tuning(winograd, *lines)
    for command in ["inspect", winograd], ["bench", winograd, "--seconds", "10ms"]:
        message = error_of(*command, status=1)
        assert "its .tune file" in message and error in message
    pathlib.Path(f"{winograd}.tune").write_text("something else\n")
    assert "line 1: expected 'convd tuning ...'" in error_of("inspect", winograd, status=1)


def test_tune(winograd):
    said = convd("tune", winograd, "--seconds", "10ms", "--threads", "1", "--batch", "2").stdout
    file = pathlib.Path(f"{winograd}.tune")
    assert file.exists() == (": written" in said)
    assert ": written" in said or "no file" in said
    if file.exists():
        assert algorithms(winograd)[0]["tuned_layers"] == 2
    other = save(winograd.parent / "none.onnx", [helper.make_node("Relu", ["x"], ["y"])],
                 [value("x", ["n", 3])], [value("y", ["n", 3])])
    assert "nothing to measure" in convd("tune", other).stdout


def test_extra_weights(winograd):
    def weights(*args):
        report, used = algorithms(winograd, *args)
        return report["memory"]["weights"], used
    plenty, used = weights()
    assert used[0] == used[1] == ["winograd", "F(4x4)"]
    own, used = weights("--extra-weights", "1")
    assert used[0][0] == used[1][0] == "direct"
    one = 64 * 64 * 4 * (36 - 9)
    assert plenty - own >= 2 * one
    some, used = weights("--extra-weights", str(one))
    assert own < some <= own + one + 4096 and [u[0] for u in used].count("winograd") >= 1


def test_inspect_balance(conv):
    args = ["inspect", conv, "--threads", "1,2,3,64", "--batch", "6"]
    report = json.loads(convd(*args, "--json").stdout)
    layers = report["layers"]
    assert [b["threads"] for b in report["balance"]] == [1, 2, 3, 64]
    for b in report["balance"]:
        assert b["batch"] == 6 and 0 < b["bound"] <= 1 and len(b["largest_shares"]) == len(layers)
        assert (b["barriers"] == 0) == (b["threads"] == 1)
        for share in b["largest_shares"]:
            assert share == 0 or 1 / b["threads"] - 1e-9 <= share <= 1
    one = report["balance"][0]
    assert one["bound"] == 1 and set(one["largest_shares"]) <= {0, 1} and 1 in one["largest_shares"]
    assert json.loads(convd(*args, "--json").stdout)["balance"] == report["balance"]
    text = convd(*args).stdout
    assert "Load balance, batch 6" in text and "LARGEST SHARE" in text
    assert "balance" not in json.loads(convd("inspect", conv, "--json").stdout)
    assert "1 to 64" in error_of("inspect", conv, "--threads", "65", status=2)


def test_bench(conv):
    args = ["bench", conv, "--batch", "1,4", "--threads", "1", "--seconds", "20ms", "--batchnorm",
            "folded,separate", "--profile"]
    report = json.loads(convd(*args, "--json").stdout)
    assert [(r["batch"], r["batchnorm"]) for r in report["results"]] == [
        (1, "folded"), (1, "separate"), (4, "folded"), (4, "separate")]
    for r in report["results"]:
        assert 0 < r["min_seconds"] <= r["median_seconds"] <= r["p99_seconds"]
        assert abs(sum(layer["share"] for layer in r["layers"]) - 1) < 1e-9
        assert r["load_seconds"] > 0 and r["first_run_seconds"] > 0
        assert 0 < r["peak_gflops"] < 1e5
        assert 0 < r["resident_bytes_before"] <= r["resident_bytes_loaded"] <= r["resident_bytes_run"]
        assert r["resident_bytes_before"] < r["resident_bytes_peak"]
    text = convd(*args).stdout
    assert "separate batch norms cost" in text and "IMAGES/s" in text and "OF PEAK" in text
    # What is explained stands once, behind all of it.
    assert text.count("keeps what follows it out of the convolution") == 1
    assert "keeps what follows it" not in convd("bench", conv, "--seconds", "10ms").stdout


def test_bench_free_sizes(data):
    path = save(data / "free.onnx", [helper.make_node("Relu", ["x"], ["y"])],
                [value("x", ["N", 3, "H", "W"])], [value("y", ["N", 3, "H", "W"])])
    assert "--shape" in error_of("bench", path, "--seconds", "10ms", status=1)
    convd("bench", path, "--seconds", "10ms", "--shape", "1x3x8x8")
    convd("bench", path, "--seconds", "10ms", "--shape", "x=1,3,8,8", "--batch", "2")
    assert "of 4 dimensions" in error_of("bench", path, "--shape", "8x8", status=1)
    assert "dimension 1 is not 5" in error_of("bench", path, "--shape", "1x5x8x8", status=1)


def test_predict(colours, tmp_path):
    names = []
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 4):
        names.append(tmp_path / f"{i}.png")
        Image.new("RGB", (20, 10 + i), colour).save(names[-1])
    answer = json.loads(convd("predict", colours, *names).stdout)
    assert answer["model_name"] == "colours" and len(answer["predictions"]) == 12
    for i, p in enumerate(answer["predictions"]):
        assert p["image"] == i and p["name"] == f"{i}.png" and len(p["classes"]) == 3
        best = p["classes"][0]
        assert best["index"] == i % 3 and best["label"] == ["red", "green", "blue"][i % 3]
        # softmax of 1, 0, 0
        assert best["score"] == pytest.approx(np.e / (np.e + 2), rel=1e-5)
    answer = json.loads(convd("predict", colours / "model.onnx", names[1], "--top", "1").stdout)
    assert answer["predictions"][0]["classes"] == [
        {"index": 1, "label": "green", "score": pytest.approx(np.e / (np.e + 2), rel=1e-5)}]


def test_predict_with_too_few_labels(colours, tmp_path):
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "blue.png")
    shutil.copy(colours / "model.onnx", tmp_path / "model.onnx")
    (tmp_path / "labels.txt").write_text("red\ngreen\n")
    done = convd("predict", tmp_path / "model.onnx", tmp_path / "blue.png")
    assert "only 2 labels for 3 classes" in done.stderr and done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["predictions"][0]["classes"][0]["label"] is None


def test_predict_bad_picture(colours, add, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (9, 9), (0, 0, 255)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    done = convd("predict", colours, bad, good, tmp_path / "none.png", status=1)
    answer = json.loads(done.stdout)["predictions"]
    assert "classes" not in answer[0] and "bad.png" in answer[0]["error"]
    assert answer[1]["classes"][0]["label"] == "blue"
    assert "none.png" in answer[2]["error"] and done.stderr.count("\n") == 2
    assert "input" in error_of("predict", add, good, status=1)


def test_predict_folder(colours, tmp_path):
    shades = {"a/red.png": (255, 0, 0), "green.webp": (0, 255, 0), "a/b/blue.jpg": (0, 0, 255)}
    for name, colour in shades.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture, and left out")
    done = convd("predict", colours, tmp_path, "--format", "jsonl", "--top", "1")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {a["name"]: a["classes"][0]["label"] for a in answers} == {
        "a/red.png": "red", "a/b/blue.jpg": "blue", "green.webp": "green"}
    assert [a["image"] for a in answers] == [0, 1, 2] and done.stderr == ""
    (tmp_path / "a" / 'bad, "very".png').write_bytes(b"nothing")
    done = convd("predict", colours, tmp_path, "--format", "csv", "--top", "2", status=1)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(rows[0]) == ["name", "rank", "index", "label", "score", "error"]
    assert len(rows) == 7 and [r["rank"] for r in rows if r["name"] == "a/red.png"] == ["1", "2"]
    (bad,) = [r for r in rows if r["error"]]
    assert bad["name"] == 'a/bad, "very".png' and bad["label"] == ""
    (tmp_path / "empty").mkdir()
    assert "no JPEG" in error_of("predict", colours, tmp_path / "empty", status=1)


def on_terminal(*args, both=False):
    """What a command writes to a terminal as its standard error; both: and as its output."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([CONVD, *map(str, args)], stdout=end if both else subprocess.DEVNULL,
                          stderr=end, env=environment) as process:
        os.close(end)
        text = b""
        try:
            while part := os.read(main, 65536):
                text += part
        except OSError:
            pass
    os.close(main)
    return process.returncode, text.decode()


def test_predict_on_a_terminal(colours, tmp_path):
    """Where the result is shown, and says what is wrong with a picture, no line comes amid it."""
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    status, text = on_terminal("predict", colours, tmp_path, both=True)
    result = json.loads(re.sub(r"\r[^{]*?\x1b\[K", "", text))
    assert status == 1 and ["error" in p for p in result["predictions"]] == [False, True]
    status, text = on_terminal("predict", colours, tmp_path)
    assert status == 1 and result["predictions"][1]["error"] in text


def test_progress_on_a_terminal(conv, colours, tmp_path):
    status, text = on_terminal("bench", conv, "--seconds", "300ms", "--threads", "1")
    assert status == 0 and "measuring" in text and "%" in text
    assert text.endswith("\r\x1b[K")
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "red.png")
    status, text = on_terminal("predict", colours, tmp_path)
    assert status == 0 and "classifying" in text and text.endswith("\r\x1b[K")
    assert convd("bench", conv, "--seconds", "10ms").stderr == ""
    for i in range(3):
        relu_test(tmp_path / "in" / f"test_{i}", f4(-1, 2), f4(0, 2))
    status, text = on_terminal("test", tmp_path / "in")
    assert status == 0 and "testing" in text and "test_" in text and text.endswith("\r\x1b[K")


def test_progress_of_loading(data):
    """A bar while a large model is loaded, and none for others or where nobody looks."""
    large = save(data / "large.onnx",
                 [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])],
                 [value("x", ["N", 2048])], [value("y", ["N", 2048])],
                 [("w", np.ones((2048, 2048), "f4"))])
    status, text = on_terminal("inspect", large)
    assert status == 0 and "loading" in text and "MB" in text and text.endswith("\r\x1b[K")
    assert convd("inspect", large).stderr == ""
    status, text = on_terminal("inspect", large, "--max-model-memory", "17M")
    assert status == 1 and "\r\x1b[Kconvd inspect: " in text and text.count("\n") == 1
    small = save(data / "small.onnx", [helper.make_node("Relu", ["x"], ["y"])],
                 [value("x", ["N", 2])], [value("y", ["N", 2])])
    assert on_terminal("inspect", small) == (0, "")


def svg_of(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return " ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))


def test_plots(conv, tmp_path):
    convd("bench", conv, "--seconds", "10ms", "--batch", "1,2", "--threads", "1", "--profile",
          "--batchnorm", "folded,separate", "--plot", tmp_path / "bench.svg")
    text = svg_of(tmp_path / "bench.svg")
    assert "batch 2, 1 thread" in text and "Images a second" in text and "ms" in text
    assert "batch norms separate" in text
    convd("inspect", conv, "--plot", tmp_path / "inspect.svg")
    text = svg_of(tmp_path / "inspect.svg")
    assert "running variance" in text and "FLOP" in text and "bn" in text
    for command in "inspect", "bench":
        for name, says in ("nowhere/x.svg", "No such file"), ("x.png", "has to end in .svg"):
            said = error_of(command, "no/such/model.onnx", "--plot", name, status=2)
            assert name in said and says in said


@pytest.mark.skipif(not shutil.which("node"), reason="node is not there")
def test_plot_of_a_comparison(tmp_path):
    rows = [{"model": "a<b", "batch": batch, "threads": 1, "ort_ms": 3 * batch, "convd_ms": 2 * batch,
             "ratio": 1.5} for batch in (1, 8)]
    report = {"machine": "a machine", "cores": 2, "load": 9, "isa": "avx2", "ort": "1.0", "rounds": 3,
              "rows": rows, "geometric_mean": 1.5}
    script = "process.stdout.write(require(process.argv[1]).plot(JSON.parse(process.argv[2])))"
    done = subprocess.run(["node", "-e", script, ROOT / "tests/compare/plot.js", json.dumps(report)],
                          capture_output=True, text=True, check=True)
    (tmp_path / "compare.svg").write_text(done.stdout)
    text = svg_of(tmp_path / "compare.svg")
    assert "a<b" in text and "1.50× (2.00 : 3.00)" in re.sub(" +", " ", text)
    assert "beside other programs (load 9)" in text


def test_batch_norm_study(conv):
    args = ["bench", conv, "--seconds", "10ms", "--batch", "2", "--threads", "1", "--batchnorm",
            "folded,separate"]
    folded, separate = json.loads(convd(*args, "--json").stdout)["results"]
    assert folded["batchnorms"]["layers"] == 0 and folded["batchnorms"]["share"] == 0
    norms = separate["batchnorms"]
    assert norms["layers"] == 1 and 0 < norms["share"] < 1 and norms["seconds"] > 0
    assert norms["written_bytes"] == 2 * 4 * 5 * 5 * 4
    text = convd(*args).stdout
    assert "separate" in text and "1 batch norms" in text and "800 B written" in text


def test_report_histograms(conv):
    (bn,) = json.loads(convd("inspect", conv, "--json").stdout)["batchnorms"]
    assert sum(bn["mean"]["counts"]) == 4 and bn["mean"]["min"] == bn["mean"]["max"] == 0
    assert bn["variance"]["min"] == 1 and bn["folded_scale"] == {
        "min": 2.0, "max": 2.0, "counts": [4] + [0] * 23}


def complete(words, split=None):
    """What bash offers for the last of the words."""
    script = convd("completion", "bash").stdout
    line = " ".join(f"'{w}'" for w in words)
    return subprocess.run(
        ["bash", "-c", f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _convd; "
         'printf "%s\n" "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True,
        cwd=ROOT).stdout.strip().split(split)


def test_completion():
    assert complete(["convd", "ins"]) == ["inspect"]
    assert set(complete(["convd", ""])) >= set(COMMANDS)
    assert "--max-body" in complete(["convd", "serve", "--max"])
    assert complete(["convd", "serve", "--log-level", "w"]) == ["warn"]
    assert complete(["convd", "inspect", "READ"]) == ["README.md"]
    assert complete(["convd", "completion", ""]) == ["bash", "zsh"]
    assert "bash or zsh" in error_of("completion", "fish", status=2)


def test_completion_of_names_with_spaces(tmp_path):
    (tmp_path / "my cat.jpg").touch()
    assert complete(["convd", "predict", f"{tmp_path}/my"], split="\n") == [f"{tmp_path}/my cat.jpg"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_completion_of_zsh(tmp_path):
    """What a line becomes when Tab is pressed behind it, in a shell on a terminal."""
    (tmp_path / "_convd").write_text(convd("completion", "zsh").stdout)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "start").write_text(
        f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D\n"
        "say() { print -r -- $BUFFER > said.new; mv said.new said; BUFFER= }; zle -N say; bindkey '^X' say\n")
    lines = {"convd ins": "convd inspect ", "convd serve --log-lev": "convd serve --log-level ",
             "convd serve --log-level w": "convd serve --log-level warn ",
             "convd predict pho": "convd predict photo.jpg ", "convd serve --port pho": "convd serve --port pho",
             "convd bench --plot pho": "convd bench --plot photo.jpg ", "convd completion z": "convd completion zsh "}
    main, end = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "HOME": str(tmp_path)}
    with subprocess.Popen(["zsh", "-f", "-i"], stdin=end, stdout=end, stderr=end, cwd=tmp_path,
                          env=environment, start_new_session=True) as process:
        os.close(end)

        def read_on():  # or it waits for somebody to read
            try:
                while os.read(main, 65536):
                    pass
            except OSError:
                pass
        threading.Thread(target=read_on, daemon=True).start()
        try:
            os.write(main, b"source start\n")
            for line, wanted in lines.items():
                os.write(main, line.encode() + b"\t\x18")
                said = tmp_path / "said"
                for _ in range(1200):
                    if said.exists():
                        break
                    time.sleep(0.05)
                assert said.read_text() == wanted + "\n", line
                said.unlink()
        finally:
            process.kill()  # what is waited for at the end of the block
    os.close(main)


def test_manual():
    """Every option of every command is in the page, and in the tables of the documents."""
    page, tables = convd("man").stdout, convd("man", "--markdown").stdout
    assert page.startswith(".TH CONVD 1")
    for command in COMMANDS:
        text = convd(command, "--help").stdout
        for name in re.findall(r"^  (?:-\w, )?--([a-z-]+)", text, re.M):
            if name != "help":
                assert "--" + name in tables and name.replace("-", "\\-") in page
    done = subprocess.run([ROOT / "tests" / "reference.sh", "--check", CONVD,
                           ROOT / "server" / "README.md"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    done = subprocess.run(["/usr/bin/python3", ROOT / "tests" / "config_reference.py", "--check",
                           ROOT / "server" / "README.md"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_port_in_use(colours):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = error_of("serve", colours, "--host", "127.0.0.1", "--port", port, status=1)
    assert f"port {port} of 127.0.0.1 is in use" in error and "--port" in error


def test_serving_a_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.onnx", "JPEG")
    assert "JPEG" in error_of("serve", tmp_path / "picture.onnx", "--port", 0, status=1)
    # Whatever it is called.
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.jpg")
    assert "this is not an ONNX model but a JPEG image" in error_of("serve", tmp_path / "cat.jpg", "--port", 0,
                                                                            status=1)
    (tmp_path / "weights.bin").write_bytes(b"\x08\x07\x00\x01")
    assert "ends in .onnx" in error_of("serve", tmp_path / "weights.bin", "--port", 0, status=1)
    Image.new("RGB", (8, 8)).save(tmp_path / "second.onnx", "PNG")
    done = convd("serve", tmp_path, "--port", 0, status=1)
    assert "JPEG" in done.stderr and "PNG" in done.stderr
    assert done.stderr.endswith("No model is loaded\n")
    assert "nowhere" in error_of("serve", "nowhere.onnx", "--port", 0, status=1)
    assert "did you mean --port" in error_of("serve", "--prot", "1", status=2)
