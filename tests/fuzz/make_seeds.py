#!/usr/bin/python3
"""Makes the seeds that fuzzing starts from: one small input of each kind for each door.

    tests/fuzz/make_seeds.py     writes tests/fuzz/seeds/*/; reproducers of findings there stay

Models have no seeds here: those of models/tiny and ONNX's own operator tests serve."""

import io
import pathlib
import struct
import zlib

import numpy as np
from onnx import numpy_helper
from PIL import Image

SEEDS = pathlib.Path(__file__).resolve().parent / "seeds"


def put(target, name, data):
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


# --- pictures: the last byte chooses how they become a tensor ---------------------------------

def picture(mode="RGB", width=19, height=13):
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 13 % 256, y * 19 % 256, x * y % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(image, kind, **options):
    to = io.BytesIO()
    image.save(to, kind, **options)
    return to.getvalue()


def orientation(n):
    """An EXIF block that says how the picture is turned."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, n, 0, 0)
    return b"Exif\0\0" + tiff


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, interlace=0):
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))


def pictures():
    rgb = picture()
    made = {
        "baseline.jpg": encoded(rgb, "JPEG", quality=70),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True, quality=30),
        "subsampled.jpg": encoded(picture(width=64, height=48), "JPEG", subsampling=2, quality=20),
        "grey.jpg": encoded(picture("L"), "JPEG", quality=60),
        "cmyk.jpg": encoded(picture("CMYK"), "JPEG", quality=50),
        "turned.jpg": encoded(rgb, "JPEG", exif=orientation(6), quality=50),
        "mirrored.jpg": encoded(rgb, "JPEG", exif=orientation(5), quality=50),
        "restarts.jpg": encoded(rgb, "JPEG", restart_marker_blocks=1, quality=50),
        "rgb.png": encoded(rgb, "PNG"),
        "rgba.png": encoded(picture("RGBA"), "PNG"),
        "grey.png": encoded(picture("L"), "PNG"),
        "grey_alpha.png": encoded(picture("LA"), "PNG"),
        "palette.png": encoded(picture("P"), "PNG"),
        "palette_bits.png": encoded(picture("P"), "PNG", bits=2),
        "transparent.png": encoded(picture("P"), "PNG", transparency=3),
        "bilevel.png": encoded(picture("1"), "PNG"),
        "grey16.png": png(3, 2, 16, 0, b"\0\x12\x34\xff\xff\0\1" * 2),
        "rgb16.png": png(1, 2, 16, 2, b"\0\x12\x34\xff\xff\0\1" * 2),
        "interlaced.png": png(2, 2, 8, 0, b"\0\x10\0\x20\0\x30\x40", interlace=1),
        "turned.png": encoded(rgb, "PNG", exif=orientation(8)[6:]),
        "lossy.webp": encoded(rgb, "WEBP", quality=30),
        "lossless.webp": encoded(rgb, "WEBP", lossless=True),
        "alpha.webp": encoded(picture("RGBA"), "WEBP", quality=30),
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=[picture("L").convert("RGB")]),
        "turned.webp": encoded(rgb, "WEBP", exif=orientation(3), quality=30),
    }
    for i, (name, data) in enumerate(made.items()):
        put("image", name, data + bytes([i * 37 % 256]))


# --- tensors ------------------------------------------------------------------------------------

def npy(array, version=None, order=None):
    to = io.BytesIO()
    np.lib.format.write_array(to, np.asarray(array, order=order), version=version)
    return to.getvalue()


def tensors():
    a = np.arange(6).reshape(2, 3)
    for kind in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"):
        name = kind.replace("?", "bool")
        put("tensor", f"{name}.npy", npy(a.astype(kind)))
        put("tensor", f"{name}.pb", numpy_helper.from_array(a.astype(kind), "t").SerializeToString())
    put("tensor", "fortran.npy", npy(a.astype("f4"), order="F"))
    put("tensor", "version2.npy", npy(a.astype("f4"), version=(2, 0)))
    put("tensor", "version3.npy", npy(a.astype("f4"), version=(3, 0)))
    put("tensor", "scalar.npy", npy(np.float32(1.5)))
    put("tensor", "empty.npy", npy(np.zeros((0, 3), "f4")))
    from onnx import TensorProto, helper
    for kind in ("FLOAT", "DOUBLE", "INT32", "INT64", "UINT64", "FLOAT16", "BFLOAT16", "BOOL"):
        t = helper.make_tensor("listed", getattr(TensorProto, kind), [2, 2], [1, 0, 1, 1])
        put("tensor", f"listed_{kind.lower()}.pb", t.SerializeToString())


# --- text ---------------------------------------------------------------------------------------

def labels():
    put("labels", "lines.txt", "cat\ndog\n\nHund, größer\r\nlast without an end")
    put("labels", "mark.txt", b"\xef\xbb\xbfone\ntwo\n")
    put("labels", "broken.txt", b"a\xff\xfe\n\xc0\x80\n\xed\xa0\x80\n")


def configs():
    put("config", "whole.json", """{"name": "m", "max_batch_size": 4, "labels": ["a", "b"],
"scores": "softmax", "input": {"name": "x", "width": 32, "height": 32, "color": "bgr",
"layout": "nhwc", "resize": "crop", "resize_to": 40, "filter": "bicubic", "scale": 0.1,
"mean": [1, 2, 3], "std": [1, 1, 1], "fill": 114}, "version_policy": {"latest": {"num_versions": 2}},
"dynamic_batching": {"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 100,
"default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 5,
"allow_timeout_override": true, "max_queue_size": 9}, "priority_levels": 3,
"default_priority_level": 2}, "instances": 2, "warmup": 1, "batchnorm": "separate"}""")
    put("config", "settings.json", """{"host": "::1", "port": 8000, "threads": 2, "models": ["a", "b"],
"max_body": "64M", "queue_timeout": "1500ms", "watch": true, "cors": ["*"], "log_level": "warn",
"tls_cert": null}""")
    put("config", "index.json", '{"ready": true}')
    put("config", "load.json", '{"parameters": {"config": "{\\"max_batch_size\\": 2}"}}')
    put("config", "load_file.json", '{"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}}')
    put("config", "unload.json", '{"parameters": {"unload_dependents": false}}')
    put("config", "logging.json", '{"log_info": true, "log_warning": false, "log_error": true, '
        '"log_verbose_level": 1, "log_format": "default"}')
    put("config", "twice.json", '{"name": "a", "name": "b", "versions": [1, 18446744073709551616, 1e400]}')
    put("config", "deep.json", '{"input": ' + "[" * 300 + "]" * 300 + "}")


JSON = "Content-Type: application/json\n\n"


def infer(model, kind, shape, data, name="x", more=""):
    return (f"POST /v2/models/{model}/infer\n{JSON}" + '{"id": "7", "inputs": [{"name": "%s", "shape": '
            '%s, "datatype": "%s", "data": %s}]%s}' % (name, shape, kind, data, more))


def requests():
    made = {
        "float": infer("float", "FP32", [2, 3], [[1, -2.5, 1e-7], [4e38, 0, -0.0]]),
        "flat": infer("float", "FP32", [1, 3], "[1.0,2,3]", more=', "outputs": [{"name": "x_out", '
                      '"parameters": {"classification": 2}}]'),
        "half": infer("half", "FP16", [1, 2], [1, 2]),
        "double": infer("double", "FP64", [1, 2], "[1e308, 5e-324]"),
        "int8": infer("int8", "INT8", [1, 2], "[-128, 127]"),
        "uint64": infer("uint64", "UINT64", [1, 2], "[18446744073709551615, 1]"),
        "bool": infer("bool", "BOOL", [1, 2], "[true, false]"),
        "any": infer("any", "FP32", [1, 1], "[3]"),
        "parameters": infer("float", "FP32", [1, 3], "[1,2,3]", more=', "parameters": {"priority": 1, '
                            '"timeout": 1000000, "binary_data_output": true}'),
        "two": "POST /v2/models/two/infer\n" + JSON + '{"inputs": [{"name": "b", "shape": [1,1], '
               '"datatype": "INT32", "data": [5]}, {"name": "a", "shape": [1,2], "datatype": "FP32", '
               '"data": [1,2]}]}',
        "escaped": infer("float", "FP32", [1, 3], "[1,2,3]").replace("7", "\\ud83d\\ude00\\n"),
        "compressed": infer("float", "FP32", [1, 3], "[1,2,3]").replace(
            "Content-Type", "Deflate-Here: gzip\nContent-Encoding: gzip\nAccept-Encoding: gzip\nContent-Type"),
        "deflated": infer("float", "FP32", [1, 3], "[1,2,3]").replace(
            "Content-Type", "Deflate-Here: deflate\nContent-Encoding: deflate\nContent-Type"),
        "instances": "POST /v1/models/float:predict\n" + JSON + '{"instances": [[1,2,3],[4,5,6]]}',
        "named": "POST /v1/models/two:predict\n" + JSON + '{"instances": [{"a": [1,2], "b": [3]}]}',
        "columns": "POST /v1/models/float/versions/1:predict\n" + JSON + '{"inputs": {"x": [[1,2,3]]}, '
                   '"signature_name": "serving_default"}',
        "base64": "POST /v1/models/picture:predict\n" + JSON + '{"instances": [{"b64": "iVBORw0KGgo="}]}',
        "live": "GET /v2/health/live\n\n",
        "metadata": "GET /v2/models/float\nX-Request-Id: a-1\n\n",
        "config": "GET /v2/models/picture/config\n\n",
        "stats": "GET /v2/models/stats\n\n",
        "index": "POST /v2/repository/index\n" + JSON + '{"ready": true}',
        "metrics": "GET /metrics\nAccept: application/openmetrics-text\n\n",
        "report": "GET /v2/models/float/report\n\n",
        "page": "GET /\nAccept: text/html\nAccept-Encoding: br;q=1, gzip;q=0.5\n\n",
        "absolute": "GET http://h/v2/models/a%20b?x=%41\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n",
    }
    for name, text in made.items():
        put("request", f"{name}.txt", text)
    json = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],' \
           b'"outputs":[{"name":"x_out","parameters":{"binary_data":true}}]}'
    put("request", "binary.txt", b"POST /v2/models/float/infer\nInference-Header-Content-Length: %d\n\n"
        % len(json) + json + struct.pack("<3f", 1, -2, 3))
    put("request", "raw.txt", b"POST /v2/models/float/infer\nInference-Header-Content-Length: 0\n\n"
        + struct.pack("<3f", 1, 2, 3))
    red = encoded(picture(width=5, height=4), "PNG")
    put("request", "classify.txt", b"POST /v2/models/picture/classify?top=3\nContent-Type: image/png\n\n" + red)
    put("request", "form.txt", b"POST /v2/models/picture/classify?top=1\nContent-Type: multipart/form-data; "
        b"boundary=B\n\n--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
        b"Content-Type: image/png\r\n\r\n" + red + b"\r\n--B\r\nContent-Disposition: form-data; name=x\r\n\r\ny"
        b"\r\n--B--\r\n")


def connections():
    body = '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,-2,0.5]}]}'
    post = "POST /v2/models/float/infer HTTP/1.1\r\nHost: h\r\n"
    made = {
        "get": "GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n",
        "old": "GET /v2 HTTP/1.0\r\n\r\n",
        "length": f"{post}Content-Length: {len(body)}\r\n\r\n{body}",
        "chunked": f"{post}Transfer-Encoding: chunked\r\n\r\n{len(body):x};a=b\r\n{body}\r\n0\r\nT: x\r\n\r\n",
        "pipelined": "GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n" * 2 + "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
        "expect": f"{post}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n{body}",
        "smuggled": f"{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "twice": f"{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "folded": "GET /v2 HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        "cookies": "GET /v2?a=b&c&top=%31 HTTP/1.1\r\nHost: h\r\nCookie: a=\"b\"; c=d\r\n\r\n",
        "tunnel": "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "upgrade": "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    }
    for name, text in made.items():
        put("http", f"{name}.txt", text)
    put("http", "pieces.txt", (post[:30].encode() + b"\xff" + post[30:].encode()
        + f"Content-Length: {len(body)}\r\n\r\n".encode() + b"\xff" + body.encode() + b"\xff"))


for make in (pictures, tensors, labels, configs, requests, connections):
    make()
