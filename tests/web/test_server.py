import re
import signal
import socket
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gpunn as gn
from gpunn.cli import main
from gpunn.web import server
from gpunn.web.reader import Reader
from tests.web.drawings import blot, network


@pytest.fixture
def client():
    pytest.importorskip("starlette")
    pytest.importorskip("httpx")
    with warnings.catch_warnings(action="ignore"):  # its later versions would rather have another client
        from starlette.testclient import TestClient

    return TestClient(server.app(network()), base_url="http://127.0.0.1")


def test_the_page_and_its_files_are_served(client):
    for path, kind in (("/", "html"), ("/style.css", "css"), ("/ask.js", "javascript"), ("/page.js", "javascript")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_an_answer_is_the_readers(client):
    description = client.get("/network").json()
    answer = client.post("/read", content=blot().tobytes())
    numbers = np.frombuffer(answer.content, "<f4")
    expected = Reader(network()).read(blot())
    sizes = [10, 784, *(layer["shape"][0] for layer in description["layers"])]
    assert [array.size for array in expected] == sizes
    np.testing.assert_array_equal(numbers, np.concatenate([a.reshape(-1) for a in expected]).astype("<f4"))


BAD = {
    "too short": ({"content": b"abc"}, 400, "expected 78400 bytes, one for each pixel, got 3"),
    "empty": ({"content": b""}, 400, "expected 78400 bytes, one for each pixel, got 0"),
    "a byte too many": ({"content": bytes(78401)}, 400, "expected 78400 bytes, one for each pixel, got 78401"),
    "no ink": ({"content": bytes(78400)}, 400, "there is no ink on this drawing"),
    "50 MB": ({"content": bytes(50_000_000)}, 413, "a drawing has 78400 bytes"),
    "50 MB in parts": ({"content": (bytes(100_000) for _ in range(500))}, 413, "a drawing has 78400 bytes"),
    "a foreign host": ({"headers": {"host": "evil.example"}, "content": blot().tobytes()}, 400, "Invalid host header"),
    "no host": ({"headers": {"host": ""}, "content": blot().tobytes()}, 400, "Invalid host header"),
    "the page of another": (
        {"headers": {"origin": "http://evil.example", "content-type": "text/plain"}, "content": blot().tobytes()},
        403,
        "drawings are taken from the page of this server alone",
    ),
    "another server's page": (
        {"headers": {"origin": "http://127.0.0.1:8001"}, "content": blot().tobytes()},
        403,
        "drawings are taken from the page of this server alone",
    ),
    "an odd length": ({"headers": {"content-length": "-1"}, "content": b""}, 413, "a drawing has 78400 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_is_refused_in_a_line_and_the_server_lives_on(client, kind):
    request, code, reason = BAD[kind]
    answer = client.post("/read", **request)
    assert (answer.status_code, answer.text.strip()) == (code, reason)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.post("/read", content=blot().tobytes()).status_code == 200


def test_the_page_itself_may_ask(client):
    for name in ("127.0.0.1", "localhost:8000"):
        headers = {"host": name, "origin": f"http://{name}"}
        assert client.post("/read", content=blot().tobytes(), headers=headers).status_code == 200


def test_the_layers_around_the_page_take_it_by_its_name():
    """As Starlette 0.37, the oldest that is allowed, gives it to them; later ones by its place."""
    pytest.importorskip("starlette")
    for around in server.app(network()).user_middleware:
        assert callable(around.cls(app=lambda: None, **around.kwargs))


def test_only_what_is_of_the_page_is_served(client):
    assert client.get("/read").status_code == 405
    assert client.post("/").status_code == 405
    for path in ("/network.js", "/server.py", "/%2e%2e/server.py", "/docs"):
        assert client.get(path).status_code == 404


# --- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "net.safetensors"
    gn.save(path, network())
    return path


def test_the_command_serves_this_machine_alone_until_ctrl_c(run):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "gpunn", "draw", str(run), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
        here = "127.0.0.1", port
        with socket.create_connection(here) as half:  # gone before it has sent all
            half.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 78400\r\n\r\nabc")
        with socket.create_connection(here) as large:  # is told before it has sent a byte of it
            large.settimeout(20)
            large.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n")
            assert large.recv(1000).startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError), socket.create_connection((_address(), port), 1):
            pass
        with socket.create_connection(here), socket.create_connection(here) as slow:  # idle, as a browser's; and slow
            slow.settimeout(20)
            slow.sendall(
                b"POST /read HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 78400\r\n\r\n"
            )
            assert slow.recv(1000).startswith(b"HTTP/1.1 100")  # so that its drawing is being waited for
            slow.sendall(b"abc")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        assert process.stdout.read() == "ended\n"
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def _address():
    """This machine's address on a network; a place where nobody listens, if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.2"
        return probe.getsockname()[0]


def test_a_port_in_use_is_named_with_the_mend(run, capsys):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["draw", str(run), "--port", str(port), "--no-browser"]) == 2
    assert capsys.readouterr().err == (
        f"gpunn: error: port {port} is in use; name another with --port, or 0 for any that is free\n"
    )


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_cannot_be_is_named(run, capsys, port):
    pytest.importorskip("uvicorn")
    assert main(["draw", str(run), "--port", port, "--no-browser"]) == 2
    assert f"got {port}" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["starlette.applications", "uvicorn"])
def test_what_is_not_installed_is_named(run, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["draw", str(run), "--no-browser"]) == 2
    expected = 'gpunn: error: the page needs Starlette and uvicorn: pip install "gpunn[web]"\n'
    assert capsys.readouterr().err == expected
