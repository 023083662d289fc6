"""Where a request ends, and what its head may hold: bytes on a socket that no client would send.

A proxy in front and this server must see the same requests in the same bytes, so whatever leaves
room for doubt is refused and ends the connection."""

import json

import pytest

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def talk(server, sent):
    """Sends it and reads until the server closes: (status, headers, body) of each answer."""
    with server.connect() as s:
        s.sendall(sent)
        data = b"".join(iter(lambda: s.recv(65536), b""))
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers["content-length"])
        answers.append((int(lines[0].split()[1]), headers, data[:length]))
        data = data[length:]
    return answers


def refusal(server, head, status, body=b""):
    """The sentence of the one answer to a head; what comes behind it is not seen as a request."""
    lines = ["POST /v2/models/relu/infer HTTP/1.1", *head]
    [(got, headers, body)] = talk(server, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
                                  + LIVE)
    assert got == status, (got, body)
    assert headers["content-type"] == "application/json"
    assert headers["connection"].lower() == "close"
    return json.loads(body)["error"]


@pytest.mark.parametrize("first,second", [("5", "50"), ("50", "5"), ("0", "5"), ("5", "05")])
def test_lengths_that_differ(server, first, second):
    head = ["Host: x", f"Content-Length: {first}", f"Content-Length: {second}"]
    assert "Content-Length" in refusal(server, head, 400, b"x" * 5)


def test_a_length_said_twice(server):
    get = LIVE.replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n"
                                       b"Connection: close\r\n")
    assert [a[0] for a in talk(server, get)] == [200]


@pytest.mark.parametrize("order", [1, -1])
def test_length_and_chunks(server, order):
    both = ["Content-Length: 5", "Transfer-Encoding: chunked"][::order]
    assert "both" in refusal(server, ["Host: x", *both], 400, b"0\r\n\r\n")


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity", "chunked, chunked",
                                    "xchunked", "chunked;q=1"])
def test_other_transfer_encodings(server, coding):
    error = refusal(server, ["Host: x", f"Transfer-Encoding: {coding}"], 501, b"5\r\nhello\r\n")
    assert coding in error and "chunked" in error


def test_two_transfer_encodings(server):
    head = ["Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"]
    assert "2 Transfer-Encoding" in refusal(server, head, 400, b"0\r\n\r\n")


def test_chunks_of_http_1_0(server):
    head = b"POST /v2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    [(status, _, body)] = talk(server, head)
    assert status == 400 and "HTTP/1.0" in json.loads(body)["error"]


@pytest.mark.parametrize("host", [[], ["Host: a", "Host: b"]])
def test_one_host(server, host):
    assert "one Host" in refusal(server, host, 400)


def test_http_1_0_needs_no_host(server):
    assert [a[0] for a in talk(server, b"GET /v2/health/live HTTP/1.0\r\n\r\n")] == [200]


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a\\b", "a?b", "a#b", 'a"', "a\xe4"])
def test_what_is_no_host(server, host):
    assert "neither a host" in refusal(server, [f"Host: {host}"], 400)


@pytest.mark.parametrize("host", ["", "a", "a.example:8000", "127.0.0.1:1", "[::1]:8000", "a_b"])
def test_hosts(server, host):
    get = LIVE.replace(b"Host: x\r\n", f"Host: {host}\r\nConnection: close\r\n".encode())
    assert [a[0] for a in talk(server, get)] == [200]


HIDDEN = {
    "a value": [b"GET", b"/v2", b"Host: x\0y"],
    "the value's end": [b"GET", b"/v2", b"Host: x\0"],
    "a value in the middle": [b"GET", b"/v2", b"A: b\0c\r\nHost: x"],
    "a length": [b"POST", b"/v2", b"Content-Length: 0\x005\r\nHost: x"],
    "a transfer coding": [b"POST", b"/v2", b"Host: x\r\nTransfer-Encoding: chunked\0, gzip"],
    "an empty value": [b"GET", b"/v2", b"Host: x\r\nA: \0b\r\nC: d"],
    "a target": [b"GET", b"/v2\0/health/live", b"Host: x"],
    "a query": [b"GET", b"/v2?a=b\0&c=d", b"Host: x"],
    "a method": [b"GET\0X", b"/v2", b"Host: x"],
    "a header without a name": [b"GET", b"/v2", b"Host: x\r\n: b\r\nC: d"],
    "the last header, without a name": [b"GET", b"/v2", b"Host: x\r\n: b"],
}


@pytest.mark.parametrize("what", HIDDEN)
def test_hidden_bytes(server, what):
    method, target, headers = HIDDEN[what]
    [(status, answer, body)] = talk(server, method + b" " + target + b" HTTP/1.1\r\n" + headers
                                    + b"\r\n\r\n" + LIVE)
    assert status == 400 and "zero byte" in json.loads(body)["error"]
    assert answer["connection"].lower() == "close"


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_nothing_is_hidden(server, end):
    """Empty lines in front, blanks, cookies, queries of every form, many headers, bare line feeds."""
    for target in b"/v2", b"/v2?", b"/v2?a", b"/v2?a=b&c=%00+d&&=", b"/v2/models/fashion?x=" + b"y" * 5000:
        for headers in b"", b"Cookie: a=b; c=d" + end, b"A:" + end + b"B: " + end, b"A: b" + end * 1 + b"C: d" + end, \
                b"".join(b"X-%d: %b" % (i, b"y" * i) + end for i in range(90)):
            head = (end * 2 + b"GET " + target + b" HTTP/1.1" + end + b"Host: x" + end + headers
                    + b"Connection: close" + end + end)
            assert [a[0] for a in talk(server, head)] == [200], (target, headers)


@pytest.mark.parametrize("header", ["Content-Length : 5", "Content Length: 5", "X\x01: a",
                                    "X: a\x01b", "X: a\x7f", "X: a\rContent-Length: 5", "X\xe9: a"])
def test_malformed_headers(server, header):
    assert "malformed" in refusal(server, ["Host: x", header], 400)


def test_latin_header_values_pass(server):
    get = LIVE.replace(b"Host: x\r\n", b"Host: x\r\nX: \xe9\tb\r\nConnection: close\r\n")
    assert [a[0] for a in talk(server, get)] == [200]


def test_a_target_that_is_too_long(server):
    for target in "/" + "a" * 9000, "/v2?" + ("a" * 1000 + "=b&") * 9:
        [(status, _, body)] = talk(server, LIVE.replace(b"/v2/health/live", target.encode()))
        assert status == 414 and "8192" in json.loads(body)["error"]
    assert server.get("/v2/health/live?" + "a" * 8000).status_code == 200


def test_headers_that_are_too_long(server):
    [(status, _, body)] = talk(server, LIVE.replace(b"Host: x\r\n",
                                                    b"Host: x\r\n" + (b"A: " + b"b" * 100 + b"\r\n") * 170))
    assert status == 431 and "16384" in json.loads(body)["error"]


FOLDED = {
    "a length": b"Content-Length:\r\n 2\r\n",
    "part of a length": b"Content-Length: 1\r\n\t2\r\n",
    "chunked": b"Transfer-Encoding:\r\n chunked\r\n",
    "the last": b"Content-Length: 2\r\nA: b\r\n c\r\n",
    "the first": b"A:\r\n b\r\nContent-Length: 2\r\n",
    "on three lines": b"Content-Length: 2\r\nA: b\r\n c\r\n d\r\nB: e\r\n",
}


@pytest.mark.parametrize("what", FOLDED)
def test_folded_headers(server, what):
    """What follows is no request: whoever joins the lines takes it for a body."""
    sent = (b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\n" + FOLDED[what]
            + b"\r\n{}GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    with server.connect() as s:
        s.sendall(sent)
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"on the next line" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_blanks_around_values(server):
    [(status, _, _)] = talk(server, LIVE.replace(
        b"Host: x\r\n", b"Host:x\r\nConnection: close\r\nA:\r\nB: \r\nC:\td \t\r\nD:    e\r\n"))
    assert status == 200


# libmicrohttpd answers these before this program sees them: the status is right, the text its own.
BY_THE_LIBRARY = {
    "HTTP/2.0": (b"GET /v2 HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /v2 HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    "no version": (b"GET /v2\r\n\r\n", 400),
    "a header without a colon": (b"GET /v2 HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
    "length -5": (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
    "length abc": (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400),
    "length past 64 bits": (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30
                            + b"\r\n\r\n", 413),
    "chunk size zz": (b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunk without its end": (b"POST /v2/models/relu/infer HTTP/1.1\r\nHost: x\r\n"
                              b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", 400),
    "target of 40 KB": (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "4000 arguments": (b"GET /v2?" + b"a&" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "2000 headers": (b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 431),
    "headers of 40 KB": (b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("what", BY_THE_LIBRARY)
def test_refused_by_the_library(server, what):
    sent, status = BY_THE_LIBRARY[what]
    with server.connect() as s:
        s.sendall(sent)
        data = b""
        try:
            data = b"".join(iter(lambda: s.recv(65536), b""))
        except ConnectionResetError:
            assert len(sent) > 10000  # what was not read of it resets the connection
        assert not data or data.startswith(b"HTTP/1.1 %d " % status), data
    assert server.get("/v2/health/live").status_code == 200
