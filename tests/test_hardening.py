"""The release binary is built with what the compiler and the linker have against exploits. Read from
the binary itself, with readelf.

CONVD_BINARY names the binary (default: build/convd)."""

import pathlib
import re
import subprocess

import pytest

from small_net import CONVD


def readelf(*what):
    return subprocess.run(["readelf", "-W", *what, CONVD], check=True, capture_output=True,
                          text=True).stdout


@pytest.fixture(scope="module")
def symbols():
    undefined = re.findall(r"UND (\w+)", readelf("--dyn-syms"))
    if any(s.startswith(("__asan", "__msan", "__tsan")) for s in undefined):
        pytest.skip("built with a sanitizer")
    if b".gcda\0" in pathlib.Path(CONVD).read_bytes():
        pytest.skip("built to count lines")
    return undefined


def test_code_is_placed_at_random(symbols):
    assert re.search(r"Type:\s+DYN", readelf("-h"))
    assert "FLAGS_1" in readelf("-d") and re.search(r"FLAGS_1.*\bPIE\b", readelf("-d"))


def test_no_memory_is_written_and_run(symbols):
    """Not the stack, not any segment; and the table of functions is read-only once it is filled."""
    segments = [line.split() for line in readelf("-l").splitlines()]
    stack, = [s for s in segments if s[:1] == ["GNU_STACK"]]
    assert "E" not in "".join(stack[6:8])
    for load in [s for s in segments if s[:1] == ["LOAD"]]:
        flags = "".join(load[6:-1])
        assert not ("W" in flags and "E" in flags), load
    assert any(s[:1] == ["GNU_RELRO"] for s in segments)
    assert re.search(r"\(FLAGS\).*BIND_NOW|FLAGS_1.*\bNOW\b", readelf("-d"))


def test_stack_and_copies_are_watched(symbols):
    assert "__stack_chk_fail" in symbols
    assert any(s.endswith("_chk") and s != "__stack_chk_fail" for s in symbols)
