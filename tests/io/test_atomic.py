import os
import stat
import subprocess
import sys

import pytest

from gpunn.errors import FileError
from gpunn.io import atomic
from gpunn.io.atomic import remove_leftovers, write_atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"\0\xff bytes", "text, größer\n"])
def test_what_is_written_is_read_again_and_nothing_else_is_left(tmp_path, data):
    path = tmp_path / "file"
    path.write_text("something longer that was there before")
    for named in (path, str(path)):
        write_atomic(named, data)
        assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["file"]


def test_a_file_in_the_current_folder_needs_no_folder_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("file", "x")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"pipe: cannot be written: it is a device or a pipe, .*; name another place"):
        write_atomic(tmp_path / "pipe", "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_old_file_stays_where_writing_fails(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "file", "old")
    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(FileError, match="file: cannot be written: No space left on device; name another place"):
        write_atomic(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_old_file_stays_where_writing_is_interrupted(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    write_atomic(tmp_path / "file", "old")
    monkeypatch.setattr(atomic.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_contents_and_then_the_name_are_flushed_to_the_disk(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def note_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(*paths):
        done.append("rename")
        replace(*paths)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(atomic.os, "replace", note_replace)
    write_atomic(tmp_path / "file", "x")
    assert done == (["file", "rename", "folder"] if os.name == "posix" else ["file", "rename"])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none/file", "No such file or directory"),
        ("file/below", "Not a directory"),
        ("folder", "Is a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, place, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=f"{place}: cannot be written: {reason}; name another place"):
        write_atomic(tmp_path / place, "x")
    assert names(tmp_path) == ["file", "folder"]


def test_text_that_has_no_bytes_is_named(tmp_path):
    with pytest.raises(FileError, match="file: cannot be written: 'utf-8' codec can't encode"):
        write_atomic(tmp_path / "file", "\udcff")
    assert names(tmp_path) == []


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    kept = ["model", ".model", "x.gpunn-tmp", ".data.gz.0.part"]
    for name in [*kept, ".model.0a1b2c3d.gpunn-tmp", ".summary.json.00000000.gpunn-tmp"]:
        (tmp_path / name).touch()
    (tmp_path / ".folder.gpunn-tmp").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*kept, ".folder.gpunn-tmp"])
    remove_leftovers(tmp_path / "none")


# A child that writes without end is killed again and again. It forks from a process that has imported all it needs,
# so that a kill finds it writing.
KILLED_WRITING = """
import os, random, signal, sys, time
from pathlib import Path
from gpunn.io.atomic import remove_leftovers, write_atomic

path, rng = Path(sys.argv[1]) / "file", random.Random(0)
sizes = 10_000, 1_000_000
leftovers = 0
write_atomic(path, bytes(sizes[0]))
for kill in range(60):
    child = os.fork()
    if child == 0:
        n = 0
        while True:
            n += 1
            write_atomic(path, bytes([n % 256]) * sizes[n % 2])
    time.sleep(rng.uniform(0.002, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    data = path.read_bytes()
    assert len(data) in sizes, f"{len(data)} bytes"
    assert data == data[:1] * len(data), "a mixture"
    leftovers += len(os.listdir(path.parent)) - 1
    remove_leftovers(path.parent)
    assert os.listdir(path.parent) == ["file"]
print(leftovers)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_while_writing_leaves_the_old_file_or_the_new(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED_WRITING, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5  # or no kill found it writing
