import gzip
import hashlib
import socket
import threading
import time
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gpunn.data import download
from gpunn.data.download import cache_folder, fetch_gzip
from gpunn.errors import FileError

PAYLOAD = np.random.default_rng(0).bytes(200_000)
GOOD = gzip.compress(PAYLOAD, mtime=0)
OTHER_BYTES = gzip.compress(PAYLOAD, compresslevel=1, mtime=1)  # compressed by somebody else
NAME = "data.gz"


class Mirror(ThreadingHTTPServer):
    """A web server that answers every request by `answer(handler, start)`; start is the first byte asked for."""

    block_on_close = False

    def __init__(self, answer):
        self.answer, self.ranges, self.closing = answer, [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        with suppress(ConnectionError):  # the client has seen enough
            self.server.answer(self, int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0)

    def log_message(self, *_):
        pass


def send(handler, status, body, length=None):
    handler.send_response(status)
    if length != "none":
        handler.send_header("Content-Length", len(body) if length is None else length)
    handler.end_headers()
    handler.wfile.write(body)


def good(body):
    def answer(handler, start):
        if start >= len(body):
            send(handler, 416, b"")
        else:
            send(handler, 206 if start else 200, body[start:])

    return answer


def whole(body, status=200, **more):
    return lambda handler, start: send(handler, status, body, **more)


def cut_after(count, length="full"):
    def answer(handler, start):
        told = len(GOOD) - start if length == "full" else length
        send(handler, 206 if start else 200, GOOD[start : start + count], told)

    return answer


def endless(handler, start):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(GOOD)


def silent(handler, start):
    send(handler, 200, GOOD[:70_000], len(GOOD))
    handler.server.closing.wait()


def raw(data):
    return lambda handler, start: handler.wfile.write(data)


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = []

    def start(answer):
        started.append(Mirror(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


def fetch(folder, *mirrors):
    urls = [getattr(mirror, "url", mirror) for mirror in mirrors]
    return fetch_gzip(NAME, urls, folder, hashlib.sha256(PAYLOAD).hexdigest(), len(PAYLOAD))


def part_of(folder, mirror):
    return folder / f".{NAME}.{zlib.crc32((mirror.url + NAME).encode()):08x}.part"


def refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_fetched(folder, path):
    assert path == folder / NAME
    assert gzip.decompress(path.read_bytes()) == PAYLOAD
    assert contents(folder) == [NAME]


def test_a_file_is_fetched_into_a_new_folder(tmp_path, mirror):
    folder = tmp_path / "new" / "folder"
    assert_fetched(folder, fetch(folder, mirror(good(GOOD))))


@pytest.mark.parametrize("length", [None, "none"])
def test_contents_count_and_not_the_bytes_they_are_compressed_to(tmp_path, mirror, length):
    assert OTHER_BYTES != GOOD
    assert_fetched(tmp_path, fetch(tmp_path, mirror(whole(OTHER_BYTES, length=length))))


WRONG = {
    "404": (whole(b"gone", 404), "HTTP Error 404: Not Found"),
    "500": (whole(b"oh", 500), "HTTP Error 500: Internal Server Error"),
    "no HTTP": (raw(b"220 ready\r\n\r\n"), "220 ready"),
    "hangs up": (raw(b""), "Remote end closed connection without response"),
    "a page": (whole(b"<html>Please log in</html>"), r"Not a gzipped file \(b'<h'\)"),
    "nothing": (whole(b""), "its contents have SHA-256 e3b0c44298fc..., expected "),
    "other contents": (whole(gzip.compress(PAYLOAD[::-1])), r"its contents have SHA-256 \w{12}\.\.\., expected \w{12}"),
    "flipped bits": (whole(GOOD[:50_000] + b"\0\0\0\0" + GOOD[50_004:]), "CRC check failed|Error -3 while"),
    "damaged stream": (whole(GOOD[:10] + b"\xff\xff" + GOOD[12:]), "Error -3 while decompressing"),
    "ends early": (whole(GOOD[:100_000]), "the compressed data ends early"),
    "something after it": (whole(GOOD + b"more"), "Not a gzipped file"),
    "bomb": (whole(gzip.compress(bytes(1 << 25), compresslevel=1)), "it holds more than the 200,000 bytes expected"),
    "too long": (whole(GOOD + GOOD * 3), "it holds more than the 200,000 bytes expected"),
    "endless": (endless, "it holds more than the 200,000 bytes expected"),
}
BROKEN_OFF = {
    "cut": (cut_after(70_000), r"the connection ended after 70,000 of 200,\d+ bytes"),
    "cut without a length": (cut_after(70_000, length="none"), "the compressed data ends early"),
    "cut in a chunk": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + GOOD[:70_000]),
        "IncompleteRead",
    ),
    "no number as length": (whole(GOOD, length="many"), "invalid literal"),
}


@pytest.mark.parametrize("kind", [*WRONG, *BROKEN_OFF])
def test_a_bad_mirror_is_told_of_and_the_next_one_is_asked(tmp_path, mirror, kind):
    answer, message = (WRONG | BROKEN_OFF)[kind]
    bad = mirror(answer)
    with pytest.raises(FileError, match=f"{NAME} could not be downloaded: {bad.url}{NAME}: .*(?:{message})") as error:
        fetch(tmp_path, bad)
    assert str(error.value).endswith("Get it by hand, and name its folder with --data-dir or GPUNN_DATA_DIR")
    assert "\n" not in str(error.value)
    if kind in WRONG:  # or it would be in the way the next time
        assert contents(tmp_path) == []
    assert_fetched(tmp_path, fetch(tmp_path, bad, mirror(good(GOOD))))


def test_a_mirror_that_is_not_there_is_told_of_and_the_next_one_is_asked(tmp_path, mirror):
    dead = refused()
    with pytest.raises(FileError, match=f"{dead}{NAME}: Connection refused; {dead}{NAME}: Connection refused"):
        fetch(tmp_path, dead, dead)
    assert contents(tmp_path) == []
    assert_fetched(tmp_path, fetch(tmp_path, dead, mirror(good(GOOD))))


def test_a_mirror_that_falls_silent_is_given_up(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(download, "_SILENCE", 0.1)
    assert_fetched(tmp_path, fetch(tmp_path, mirror(silent), mirror(good(GOOD))))


def test_what_is_there_already_is_not_asked_for_again(tmp_path, mirror):
    server = mirror(cut_after(70_000))
    for _ in range(2):
        with pytest.raises(FileError, match="the connection ended after"):
            fetch(tmp_path, server)
    assert contents(tmp_path) == [part_of(tmp_path, server).name]
    assert part_of(tmp_path, server).read_bytes() == GOOD[:140_000]
    assert_fetched(tmp_path, fetch(tmp_path, server))
    assert server.ranges == [None, "bytes=70000-", "bytes=140000-"]


def test_a_mirror_that_sends_all_again_is_understood(tmp_path, mirror):
    server = mirror(whole(GOOD))
    part_of(tmp_path, server).write_bytes(GOOD[:70_000])
    assert_fetched(tmp_path, fetch(tmp_path, server))
    assert server.ranges == ["bytes=70000-"]


def test_a_part_that_is_whole_is_taken(tmp_path, mirror):
    server = mirror(good(GOOD))
    part_of(tmp_path, server).write_bytes(GOOD)
    assert_fetched(tmp_path, fetch(tmp_path, server))
    assert server.ranges == [f"bytes={len(GOOD)}-"]


@pytest.mark.parametrize(
    "part", [GOOD + b"more", b"x" * 70_000, OTHER_BYTES[:70_000], GOOD[:70_000][::-1], b"x" * (3 * len(GOOD))]
)
def test_a_part_that_does_not_fit_is_loaded_anew(tmp_path, mirror, part):
    server = mirror(good(GOOD))
    part_of(tmp_path, server).write_bytes(part)
    assert_fetched(tmp_path, fetch(tmp_path, server))
    assert server.ranges == [f"bytes={len(part)}-", None]


def test_a_part_is_continued_by_its_own_mirror_only(tmp_path, mirror):
    first, second = mirror(cut_after(70_000)), mirror(good(OTHER_BYTES))
    assert_fetched(tmp_path, fetch(tmp_path, first, second))
    assert second.ranges == [None]
    assert (tmp_path / NAME).read_bytes() == OTHER_BYTES


def test_several_who_need_a_file_at_once_all_get_it(tmp_path, mirror):
    def slowly(handler, start):
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", len(GOOD) - start)
        handler.end_headers()
        for place in range(start, len(GOOD), 10_000):
            handler.wfile.write(GOOD[place : place + 10_000])
            time.sleep(0.005)

    def ask():
        try:
            done.append(fetch(tmp_path, mirrors).read_bytes())
        except FileError as error:
            done.append(str(error))

    done, mirrors = [], mirror(slowly)
    several = [threading.Thread(target=ask) for _ in range(3)]
    for thread in several:
        thread.start()
        time.sleep(0.02)  # the second would write over what the first has written, or after it
    for thread in several:
        thread.join()
    assert done == [GOOD] * 3
    assert mirrors.ranges == [None]


def test_the_file_has_its_name_only_when_it_is_whole(tmp_path, mirror):
    seen = []

    def watched(handler, start):
        handler.send_response(200)
        handler.send_header("Content-Length", len(GOOD))
        handler.end_headers()
        for i in range(0, len(GOOD), 10_000):
            handler.wfile.write(GOOD[i : i + 10_000])
            seen.append((tmp_path / NAME).exists())

    fetch(tmp_path, mirror(watched))
    assert not any(seen[:-1])


def test_nothing_is_asked_for_offline(tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("GPUNN_OFFLINE", "1")
    server = mirror(good(GOOD))
    with pytest.raises(FileError, match=r"data\.gz is not there, and GPUNN_OFFLINE forbids to download it: get it by"):
        fetch(tmp_path / "new", server)
    assert server.ranges == []
    assert contents(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path, mirror):
    (tmp_path / "file").write_text("in the way")
    server = mirror(good(GOOD))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError, match=f"{folder}: cannot be written: .*; name another folder"):
            fetch(folder, server)
    assert server.ranges == []


def test_a_target_that_cannot_be_written_is_named(tmp_path, mirror):
    (tmp_path / NAME / "full").mkdir(parents=True)
    with pytest.raises(FileError, match=f"{tmp_path}: cannot be written: Is a directory"):
        fetch(tmp_path, mirror(good(GOOD)))


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "named/gpunn"),
        ("linux", None, "home/.cache/gpunn"),
        ("darwin", None, "home/Library/Caches/gpunn"),
        ("win32", "LOCALAPPDATA", "named/gpunn"),
        ("win32", None, "home/AppData/Local/gpunn"),
    ],
)
def test_the_cache_is_where_each_system_keeps_its_caches(tmp_path, monkeypatch, platform, variable, expected):
    monkeypatch.setattr(download.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "named"))
    assert cache_folder() == tmp_path / expected


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(download.sys, "platform", "linux")
    with pytest.raises(FileError, match=r"no folder to keep data in: .* Name one with --data-dir or GPUNN_DATA_DIR"):
        cache_folder()
