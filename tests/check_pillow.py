#!/usr/bin/python3
"""Compares decoding, resizing and preprocessing with Pillow, on pictures made here and on the test
data where it is there (CONVD_DATA, else ../shared/data). Needs Pillow and NumPy; compiles the C
sources it tests into a folder of its own. Prints one line a group; exit status 1 if any fails."""

import ctypes as c
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps, features

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("CONVD_DATA", ROOT.parent / "shared" / "data"))
SOURCES = ["server/image.c", "server/image_jpeg.c", "server/image_png.c", "server/image_webp.c",
           "server/exif.c", "server/resize.c", "server/resize_passes.c", "server/preprocess.c",
           "runtime/mem.c", "runtime/status.c", "runtime/tensor.c"]
LIBRARY = ROOT / os.environ.get("B", "build/release") / "libconvd.a"  # says which level to use
STATUS = ["ok", "nomem", "invalid", "unsupported", "limit"]
RGB, BGR, GRAY = range(3)
CROP, STRETCH, FIT = range(3)
BILINEAR, BICUBIC, NEAREST = range(3)
PILLOW_FILTER = {BILINEAR: Image.BILINEAR, BICUBIC: Image.BICUBIC, NEAREST: Image.NEAREST}
FLOAT, UINT8, FLOAT16 = 1, 2, 10


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("text", c.c_char * 2048)]


class DecodeOptions(c.Structure):
    _fields_ = [("channels", c.c_int), ("max_pixels", c.c_size_t), ("max_scans", c.c_int),
                ("min_width", c.c_int), ("min_height", c.c_int), ("sink", c.c_void_p)]


class Picture(c.Structure):
    _fields_ = [("width", c.c_int), ("height", c.c_int), ("channels", c.c_int),
                ("full_width", c.c_int), ("full_height", c.c_int), ("box", c.c_double * 4),
                ("format", c.c_int),
                ("pixel", c.POINTER(c.c_uint8))]


class Resize(c.Structure):
    _fields_ = [("src", c.c_void_p), ("width", c.c_int), ("height", c.c_int),
                ("channels", c.c_int), ("box", c.c_double * 4), ("full_width", c.c_int64),
                ("full_height", c.c_int64), ("left", c.c_int64), ("top", c.c_int64),
                ("window_width", c.c_int), ("window_height", c.c_int), ("filter", c.c_int)]


class Preprocess(c.Structure):
    _fields_ = [("width", c.c_int), ("height", c.c_int), ("channels", c.c_int), ("nhwc", c.c_bool),
                ("color", c.c_int), ("resize", c.c_int), ("resize_to", c.c_int),
                ("filter", c.c_int), ("dtype", c.c_int), ("scale", c.c_float),
                ("mean", c.c_float * 4), ("std", c.c_float * 4), ("fill", c.c_float),
                ("scaled_decode", c.c_bool), ("max_pixels", c.c_size_t)]


class Times(c.Structure):
    _fields_ = [("decode", c.c_double), ("resize", c.c_double)]


def build(folder):
    so = os.path.join(folder, "image.so")
    subprocess.run([os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2",
                    "-ffp-contract=off", "-shared", "-fPIC", "-I", ROOT,
                    *os.environ.get("CHECK_CFLAGS", "").split(), *[ROOT / s for s in SOURCES],
                    LIBRARY, "-o", so, "-fopenmp", "-lprotobuf-c", "-ljpeg", "-lspng", "-lwebp", "-lwebpdemux", "-lm"], check=True)
    lib = c.CDLL(so)
    lib.rt_mem_live.restype = c.c_long
    lib.sv_preprocess_bytes.restype = c.c_size_t
    return lib


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(f"{STATUS[status]}: {text}")
        self.status = STATUS[status]


def decode(data, channels=3, **options):
    picture, error = Picture(), Error()
    o = DecodeOptions(channels=channels, **options)
    status = LIB.sv_image_decode(data, c.c_size_t(len(data)), c.byref(o), c.byref(picture),
                                 c.byref(error))
    if status:
        raise Refused(status, error.text.decode())
    shape = (picture.height, picture.width, picture.channels)
    assert picture.channels == channels
    pixels = np.ctypeslib.as_array(picture.pixel, shape).copy()
    full = picture.full_width, picture.full_height
    LIB.sv_image_reset(c.byref(picture))
    return pixels, full


def resize(pixels, size, window=None, box=None, method=BILINEAR):
    left, top, right, bottom = window or (0, 0, *size)
    pixels = np.ascontiguousarray(pixels)
    h, w, channels = pixels.shape
    r = Resize(src=pixels.ctypes.data, width=w, height=h, channels=channels,
               full_width=size[0], full_height=size[1], left=left, top=top,
               window_width=right - left, window_height=bottom - top, filter=method)
    if box:
        r.box[:] = box
    out = np.full((bottom - top, right - left, channels), 7, np.uint8)
    error = Error()
    status = LIB.sv_resize(c.byref(r), c.c_void_p(out.ctypes.data),
                           c.c_size_t((right - left) * channels), c.byref(error))
    assert status == 0, error.text
    return out


def preprocess(p, data):
    dtype = {FLOAT: np.float32, UINT8: np.uint8, FLOAT16: np.float16}[p.dtype]
    shape = ((p.height, p.width, p.channels) if p.nhwc else (p.channels, p.height, p.width))
    out = np.empty(shape, dtype)
    assert out.nbytes == LIB.sv_preprocess_bytes(c.byref(p))
    times, error = Times(), Error()
    status = LIB.sv_preprocess_run(c.byref(p), data, c.c_size_t(len(data)),
                                   c.c_void_p(out.ctypes.data), c.byref(times), c.byref(error))
    if status:
        raise Refused(status, error.text.decode())
    return out, times


def pillow(data, mode="RGB"):
    image = Image.open(io.BytesIO(data))
    image.load()
    return np.asarray(ImageOps.exif_transpose(image).convert(mode)).reshape(
        ImageOps.exif_transpose(image).size[::-1] + (-1,))


FAILED = 0
GROUPS = 0


class Group:
    """Collects what differs and prints one line at its end."""

    def __init__(self, name):
        self.name, self.n, self.bad, self.note = name, 0, [], ""

    def __enter__(self):
        return self

    def check(self, good, what):
        self.n += 1
        if not good:
            self.bad.append(what)

    def same(self, got, want, what, within=0):
        if got.shape != want.shape:
            return self.check(False, f"{what}: shape {got.shape}, wanted {want.shape}")
        off = np.abs(got.astype(int) - want.astype(int)).max(initial=0)
        self.check(off <= within, f"{what}: differs by {off}")

    def __exit__(self, kind, value, trace):
        global FAILED, GROUPS
        if kind is None:
            GROUPS += 1
            FAILED += bool(self.bad)
            print(f"{'FAIL' if self.bad else 'ok  '} {self.name}: {self.n} checks {self.note}")
            for what in self.bad[:10]:
                print("     ", what)


def photo(width, height, seed=1):
    """Something with flats, gradients, edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1),
                  (x // 7 + y // 5) % 2 * 255], -1)
    a = a + rng.integers(-30, 31, a.shape)
    return np.clip(a, 0, 255).astype(np.uint8)


def encode(image, kind, **options):
    f = io.BytesIO()
    image.save(f, kind, **options)
    return f.getvalue()


def png(width, height, depth, kind, rows, extra=b""):
    """A PNG from packed rows, for the forms that Pillow does not write."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data))
    raw = b"".join(b"\0" + r for r in rows)
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)) + extra +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def exif(orientation, big):
    e = ">" if big else "<"
    return (b"Exif\0\0" + (b"MM" if big else b"II") + struct.pack(e + "HIH", 42, 8, 2) +
            struct.pack(e + "HHII", 0x0100, 4, 1, 5) +
            struct.pack(e + "HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0")


def check_decode():
    both = [("RGB", 3), ("L", 1)]
    with Group("JPEG as Pillow decodes it") as g:
        for w, h in [(1, 1), (7, 5), (16, 16), (67, 45), (130, 97)]:
            rgb = Image.fromarray(photo(w, h))
            for mode in ["RGB", "L", "CMYK"]:
                for o in [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1},
                          {"quality": 30}, {"optimize": True}]:
                    data = encode(rgb.convert(mode), "JPEG", **o)
                    for to, n in both:
                        g.same(decode(data, n)[0], pillow(data, to), f"{w}x{h} {mode} {o} to {to}")
    with Group("PNG as Pillow decodes it") as g:
        for w, h in [(1, 1), (9, 5), (64, 33)]:
            rgb = Image.fromarray(photo(w, h))
            alpha = rgb.copy()
            alpha.putalpha(rgb.convert("L"))
            palette = rgb.quantize(11)
            cases = {"1": rgb.convert("1"), "L": rgb.convert("L"), "LA": alpha.convert("LA"),
                     "P": rgb.quantize(200), "P4": palette, "RGB": rgb, "RGBA": alpha,
                     "P2": rgb.quantize(3), "P1": rgb.quantize(2)}
            files = {k: encode(v, "PNG") for k, v in cases.items()}
            files["P tRNS"] = encode(palette, "PNG", transparency=3)
            files["RGB tRNS"] = encode(rgb, "PNG", transparency=(1, 2, 3))
            rng = np.random.default_rng(5)
            for depth in (1, 2, 4):
                rows = [rng.bytes((w * depth + 7) // 8) for _ in range(h)]
                files[f"grey {depth}"] = png(w, h, depth, 0, rows)
            for name, data in files.items():
                for to, n in both:
                    g.same(decode(data, n)[0], pillow(data, to), f"{w}x{h} {name} to {to}")
    with Group("16-bit PNG is value / 257 rounded") as g:
        rng = np.random.default_rng(6)
        for kind, samples in [(0, 1), (4, 2), (2, 3), (6, 4)]:
            a = rng.integers(0, 65536, (33, 21, samples))
            data = png(21, 33, 16, kind, [r.astype(">u2").tobytes() for r in a])
            want = np.floor(a / 257 + 0.5).astype(np.uint8)[..., :1 if samples < 3 else 3]
            g.same(decode(data)[0], np.broadcast_to(want, (33, 21, 3)), f"type {kind}")
    with Group("WebP as Pillow decodes it") as g:
        for w, h in [(1, 1), (9, 5), (64, 33)]:
            rgb = Image.fromarray(photo(w, h))
            alpha = rgb.copy()
            alpha.putalpha(rgb.convert("L"))
            for name, data in {
                    "lossy": encode(rgb, "WEBP"),
                    "lossless": encode(rgb, "WEBP", lossless=True),
                    "alpha": encode(alpha, "WEBP"),
                    "alpha lossless": encode(alpha, "WEBP", lossless=True, exact=True),
                    "animated": encode(rgb, "WEBP", save_all=True, append_images=[
                        Image.fromarray(photo(w, h, 2))])}.items():
                for to, n in both:
                    g.same(decode(data, n)[0], pillow(data, to), f"{w}x{h} {name} to {to}")
    with Group("EXIF orientation as Pillow applies it") as g:
        rgb = Image.fromarray(photo(37, 70))
        for kind in ["JPEG", "PNG", "WEBP"]:
            for o in range(0, 10):
                for big in (False, True):
                    data = encode(rgb, kind, exif=exif(o, big))
                    for to, n in both:
                        g.same(decode(data, n)[0], pillow(data, to), f"{kind} {o} to {to}")


def check_resize():
    rng = np.random.default_rng(3)
    sizes = [(1, 1), (2, 3), (17, 9), (64, 64), (100, 37), (224, 224), (333, 500)]
    for method, name in [(BILINEAR, "bilinear"), (BICUBIC, "bicubic"), (NEAREST, "nearest")]:
        with Group(f"resize, {name}, is Pillow's bit for bit") as g:
            for w, h in sizes + [(1, 700), (1500, 2), (1280, 720)]:
                for channels in (1, 3):
                    a = photo(w, h)[..., :channels] if (w + h) % 2 else \
                        rng.integers(0, 2, (h, w, channels), np.uint8) * 255
                    image = Image.fromarray(a.squeeze(-1) if channels == 1 else a)
                    for size in sizes:
                        want = np.asarray(image.resize(size, PILLOW_FILTER[method]))
                        want = want.reshape(want.shape[:2] + (channels,))
                        what = f"{w}x{h}x{channels} to {size}"
                        g.same(resize(a, size, method=method), want, what)
                        x0, x1 = sorted(rng.integers(0, size[0] + 1, 2))
                        y0, y1 = sorted(rng.integers(0, size[1] + 1, 2))
                        if x0 < x1 and y0 < y1:
                            g.same(resize(a, size, (x0, y0, x1, y1), method=method),
                                   want[y0:y1, x0:x1], f"{what} window {(x0, y0, x1, y1)}")
                    box = (w * 0.25, h * 0.125, w * 0.75, h * 0.875)
                    want = np.asarray(image.resize((31, 40), PILLOW_FILTER[method], box=box))
                    if method != NEAREST:
                        g.same(resize(a, (31, 40), box=box, method=method),
                               want.reshape(40, 31, channels), f"{w}x{h}x{channels} box {box}")


def torchvision(data, resize_to, width, height, mode):
    """What torchvision's Resize(resize_to) and CenterCrop do, written out."""
    image = Image.open(io.BytesIO(data)).convert(mode)
    w, h = image.size
    short, long = min(w, h), max(w, h)
    new = resize_to, int(resize_to * long / short)
    image = image.resize(new if w <= h else new[::-1], Image.BILINEAR)
    left = int(round((image.width - width) / 2.0))
    top = int(round((image.height - height) / 2.0))
    a = np.asarray(image.crop((left, top, left + width, top + height)))
    return a.reshape(height, width, -1)


def check_preprocess():
    mean, std = [0.485, 0.456, 0.406, 0], [0.229, 0.224, 0.225, 1]
    with Group("preprocessing as torchvision does it") as g:
        for w, h in [(500, 375), (375, 500), (64, 64), (31, 100), (301, 300), (1, 50)]:
            data = encode(Image.fromarray(photo(w, h)), "PNG")
            for resize_to, side in [(256, 224), (64, 64), (65, 64), (33, 32)]:
                p = Preprocess(width=side, height=side, channels=3, color=RGB, resize=CROP,
                               resize_to=resize_to, dtype=FLOAT, scale=1 / 255)
                p.mean[:], p.std[:] = mean, std
                got, _ = preprocess(p, data)
                a = torchvision(data, resize_to, side, side, "RGB")
                want = (a.astype(np.float64) / 255 - mean[:3]) / std[:3]
                what = f"{w}x{h} to {resize_to}, {side}"
                g.check(np.abs(got.transpose(1, 2, 0) - want).max() < 1e-6, what)
                p.nhwc, p.color = True, BGR
                p.mean[:], p.std[:] = mean[2::-1] + [0], std[2::-1] + [1]
                got, _ = preprocess(p, data)
                g.check(np.abs(got - want[..., ::-1]).max() < 1e-6, what + " BGR NHWC")
                p = Preprocess(width=side, height=side, channels=1, color=GRAY, resize=CROP,
                               resize_to=resize_to, dtype=UINT8, scale=1)
                p.std[:] = [1] * 4
                g.same(preprocess(p, data)[0].transpose(1, 2, 0),
                       torchvision(data, resize_to, side, side, "L"), what + " grey uint8")
    with Group("preprocessing, other modes") as g:
        a = photo(90, 40)
        data = encode(Image.fromarray(a), "PNG")
        p = Preprocess(width=50, height=60, channels=3, resize=STRETCH, dtype=FLOAT16, scale=1)
        p.std[:] = [1] * 4
        want = resize(a, (50, 60))
        g.same(preprocess(p, data)[0].transpose(1, 2, 0), want, "stretch float16")
        p = Preprocess(width=50, height=60, channels=3, resize=FIT, dtype=FLOAT, scale=1, fill=114)
        p.std[:] = [1] * 4
        want = np.full((60, 50, 3), 114, np.uint8)
        want[19:41] = resize(a, (50, 22))
        g.same(preprocess(p, data)[0].transpose(1, 2, 0), want, "fit")
        p.resize = CROP
        g.same(preprocess(p, data)[0].transpose(1, 2, 0), resize(a, (135, 60), (42, 0, 92, 60)),
               "cover")


def check_data():
    folder = DATA / "images"
    if not (folder / "meta.json").exists():
        print(f"skip files: {folder} is not there")
        return
    elsewhere = {".bmp", ".gif", ".ppm"}  # formats that are refused on purpose
    with Group("test files behave as their list says") as g:
        for entry in json.loads((folder / "meta.json").read_text()):
            name, expect = entry["file"], entry["expect"]
            data = (folder / name).read_bytes()
            try:
                got, said = decode(data)[0], "decodes"
            except Refused as refused:
                got, said = None, str(refused)
            if pathlib.Path(name).suffix in elsewhere:
                g.check(said.startswith(("unsupported", "limit")), f"{name}: {said}")
            elif expect.startswith("must be"):
                g.check(got is None, f"{name}: {said}, but {expect}")
                if "pixel limit" in expect:
                    g.check(said.startswith("limit"), f"{name}: {said}")
            elif expect.startswith(("decode", "decodes")):
                g.check(got is not None, f"{name}: {said}, but {expect}")
            if os.environ.get("VERBOSE"):
                print("     ", name, "|", expect, "|", said)
            sixteen = "16-bit" in entry["kind"]
            if got is not None and not (sixteen and "grey" in entry["kind"]):
                g.same(got, pillow(data), name, within=1 if sixteen else 0)
                if not sixteen:
                    g.same(decode(data, 1)[0], pillow(data, "L"), name + " grey")
    with Group("scaled decoding stays close") as g:
        for name in ["cat_720p.jpg", "parrot.jpg", "hot_dog.jpg", "flower.jpg",
                     "exif_landscape_3.jpg", "exif_landscape_8.jpg"]:
            data = (folder / name).read_bytes()
            for side in (64, 96, 224):
                p = Preprocess(width=side, height=side, channels=3, dtype=FLOAT, scale=1)
                p.std[:] = [1] * 4
                exact = preprocess(p, data)[0]
                p.scaled_decode = True
                off = np.abs(preprocess(p, data)[0] - exact)
                g.check(off.mean() < 1.6, f"{name} to {side}: mean {off.mean():.2f}")
                if os.environ.get("VERBOSE"):
                    print(f"      {name} to {side}: mean {off.mean():.3f} max {off.max():.0f}")


def bench():
    """Times the usual preprocessing."""
    folder = DATA / "images"
    for name in ["cat_720p.jpg", "exif_landscape_8.jpg", "flower.jpg", "chelsea.png",
                 "webp_lossy.webp"]:
        data = (folder / name).read_bytes()
        for scaled in (False, True):
            p = Preprocess(width=224, height=224, channels=3, resize_to=256, dtype=FLOAT,
                           scale=1 / 255, scaled_decode=scaled)
            p.std[:] = [1] * 4
            runs = [preprocess(p, data)[1] for _ in range(15)]
            d, r = min(t.decode for t in runs), min(t.resize for t in runs)
            print(f"{name:22} {'scaled' if scaled else 'exact ':6} decode {d * 1e3:6.2f} ms, "
                  f"resize and normalise {r * 1e3:5.2f} ms")


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    with tempfile.TemporaryDirectory() as temp:
        LIB = build(temp)
        if sys.argv[1:] == ["--bench"]:
            bench()
            sys.exit(0)
        check_decode()
        check_resize()
        check_preprocess()
        check_data()
        with Group("no block leaked") as group:
            group.check(LIB.rt_mem_live() == 0, f"{LIB.rt_mem_live()} blocks")
    print(f"{GROUPS - FAILED} passed, {FAILED} failed")
    sys.exit(FAILED > 0)
