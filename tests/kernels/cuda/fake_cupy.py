"""A stand-in for CuPy in which training steps are captured and replayed, on the CPU.

Arrays are NumPy's in a wrapper that nothing unwraps by accident. While a stream captures, all that is done with them is
noted, and undone at the end, since a capture computes nothing; to replay is to do what was noted again, with the same
memory. What CuPy refuses in a capture is refused: numbers that go to the host or come from there, cuBLAS.

Computing is done at once; a copy from pinned memory (`set` with a stream) as late as it may be, when somebody waits for
an event after it. Whoever does not wait finds what was there before. What is seen here only in hindsight is looked for,
and is a fault: pinned memory that is written, or copied from again, before the host has waited for its last copy; a
copy to memory that has been read since the copying stream last waited for the computing one.
"""

import contextlib
import types
import weakref

import numpy as np

state = types.SimpleNamespace(capturing=None, live=[], refused=[], replays=0, current=None)
state.computed = []  # names of the functions of NumPy that stand for kernels of CuPy's own
state.clock, state.copies, state.reads = 0, [], []  # of computing; copies the host has not waited for; (when, where)


def overlap(a, b):
    return np.may_share_memory(a, b)


def touch(*arrays):
    """Arrays are read or written by something that computes."""
    state.clock += 1
    for array in arrays:
        if isinstance(array, np.ndarray) and any(overlap(array, target) for target in state.targets.values()):
            state.reads.append((state.clock, array))


class Copy:
    """A copy from pinned memory on its way."""

    def __init__(self, target, source, known):
        assert any(base(source) is memory for memory in state.pinned), "a copy that would make the host wait"
        assert not any(overlap(source, copy.source) for copy in state.copies), "pinned memory is used again too early"
        late = [when for when, array in state.reads if when > known and overlap(target, array)]
        assert not late, "a copy to memory that may still be read"
        state.reads = [(when, array) for when, array in state.reads if not overlap(target, array)]
        state.targets[target.ctypes.data, target.nbytes] = target
        self.target, self.source, self.was, self.done = target, source, source.copy(), False
        state.copies.append(self)

    def do(self):
        if not self.done:
            self.target[...] = self.source
            self.done = True

    def wait(self):
        """The host waits for it."""
        self.do()
        if self in state.copies:
            state.copies.remove(self)
            assert self.source.tobytes() == self.was.tobytes(), "pinned memory was written before its copy was over"


def base(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Event:
    """What a stream had been given when this was recorded."""

    def __init__(self, block=False, disable_timing=False):
        self.copies, self.clock = [], 0

    def record(self, stream=None):
        refuse("an event")
        stream = stream or state.current
        self.copies, self.clock = list(stream.copies), stream.known if stream.copies else state.clock

    def synchronize(self):
        refuse("waiting for an event")
        for copy in self.copies:
            copy.wait()


def alloc_pinned_memory(size):
    array = np.full(size, 113, np.uint8)
    state.pinned.append(array)
    return array


def unwrap(value):
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, list | tuple):
        return type(value)(map(unwrap, value))
    return value


def wrap(value):
    if isinstance(value, tuple | list):
        return type(value)(map(wrap, value))
    return ndarray(value) if isinstance(value, np.ndarray | np.generic) else value


def flat(values):
    for value in values:
        if isinstance(value, list | tuple):
            yield from flat(value)
        else:
            yield value


def refuse(what):
    if state.capturing is not None:
        state.refused.append(what)
        raise RuntimeError(f"the current stream is capturing, so {what} is unsupported.")


def note(again):
    """Keep for replays what has just been done."""
    if state.capturing is not None:
        state.capturing.append(again)


def compute(function, *args, **kwargs):
    """function(*args), with arrays unwrapped; noted if a stream captures."""
    args, kwargs = unwrap(args), {name: unwrap(value) for name, value in kwargs.items()}
    touch(*flat(args))
    state.computed.append(getattr(function, "__name__", "?"))
    result = function(*args, **kwargs)
    if isinstance(result, np.generic):
        result = np.asarray(result)
    outs = result if isinstance(result, tuple) else (result,)
    if all(isinstance(out, np.ndarray) for out in outs):
        state.live.extend(map(weakref.ref, outs))

        def again():
            touch(*flat(args))
            state.computed.append(getattr(function, "__name__", "?"))
            new = function(*args, **kwargs)
            for out, value in zip(outs, new if isinstance(new, tuple) else (new,), strict=True):
                if out is not value:
                    np.copyto(out, value)

        note(again)
    return wrap(result)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the device."""

    def __init__(self, host):
        self.host = np.asarray(host)
        state.live.append(weakref.ref(self.host))

    shape, dtype, size, ndim, flags, itemsize, strides = (
        property(lambda self, name=name: getattr(self.host, name))
        for name in ("shape", "dtype", "size", "ndim", "flags", "itemsize", "strides")
    )
    T = property(lambda self: wrap(self.host.T))
    device = property(lambda self: device)
    data = property(lambda self: types.SimpleNamespace(ptr=self.host.ctypes.data))
    ctypes = property(lambda self: self.host.ctypes)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        for value in inputs:
            if isinstance(value, np.ndarray):
                raise TypeError(f"Unsupported type {type(value)}")
        return compute(getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return compute(function, *args, **kwargs)

    def get(self):
        refuse("a copy to the host")
        return self.host.copy()

    def set(self, source, stream):
        refuse("a copy from the host")
        assert stream.non_blocking
        assert self.flags.c_contiguous
        assert source.flags.c_contiguous
        assert (source.shape, source.dtype) == (self.shape, self.dtype)
        stream.copies.append(Copy(self.host, source, stream.known))

    def _number(self, kind):
        refuse("a look at a number")
        return kind(self.host)

    def __float__(self):
        return self._number(float)

    def __int__(self):
        return self._number(int)

    def __bool__(self):
        return self._number(bool)

    def __index__(self):
        return self._number(int)

    def item(self):
        return self._number(lambda host: host.item())

    def __len__(self):
        return len(self.host)

    def __getitem__(self, key):
        if not _selects(key):
            return wrap(self.host[unwrap(key)])
        if any(isinstance(k, ndarray) and k.dtype.kind == "b" for k in (key if isinstance(key, tuple) else (key,))):
            refuse("counting what is true")
        return compute(lambda a, k: a[k], self, key)

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("an array of NumPy is put into one of CuPy")
        target, key, value = self.host, unwrap(key), unwrap(value)

        def again():
            state.computed.append("copy")
            target[key] = value

        again()
        note(again)

    def astype(self, dtype, order="K", copy=True):
        if not copy and self.dtype == dtype:
            return self
        return compute(lambda a: a.astype(dtype, order=order), self)

    def view(self, dtype):
        return wrap(self.host.view(dtype))

    def reshape(self, *shape):
        made = self.host.reshape(*shape)
        return wrap(made) if np.shares_memory(made, self.host) else compute(lambda a: a.reshape(*shape), self)

    def swapaxes(self, a, b):
        return wrap(self.host.swapaxes(a, b))

    def copy(self):
        return compute(np.copy, self)

    def min(self):
        return compute(np.min, self)

    def max(self):
        return compute(np.max, self)


def _selects(key):
    return any(isinstance(k, ndarray) for k in (key if isinstance(key, tuple) else (key,)))


class Stream:
    """A stream; work in it is done at once, but for copies from pinned memory."""

    def __init__(self, non_blocking=False):
        self.ptr, self.non_blocking, self.graph = id(self), non_blocking, None
        self.copies, self.known = [], 0  # known: what has been computed for certain when the stream comes to do more

    def __enter__(self):
        self.before, state.current = state.current, self

    def __exit__(self, *_):
        state.current = self.before

    def is_capturing(self):
        return self.graph is not None

    def synchronize(self):
        refuse("waiting for the stream")
        for copy in self.copies:
            copy.wait()

    def wait_event(self, event):
        for copy in event.copies:
            copy.do()
        self.known = max(self.known, event.clock)

    def begin_capture(self):
        assert self.non_blocking
        assert state.capturing is None
        assert state.pool is not None, "a capture that takes its memory from where others take theirs"
        self.graph = state.capturing = []
        there = [array for array in (reference() for reference in state.live) if array is not None]
        state.live = [weakref.ref(array) for array in there]
        self.saved = [(array, array.copy()) for array in there]

    def end_capture(self):
        noted, self.graph, state.capturing = self.graph, None, None
        for array, value in self.saved:
            if array.flags.writeable:
                array[...] = value
        return Graph(noted)


class Graph:
    """What was noted."""

    def __init__(self, noted):
        self.noted, self.uploaded = noted, False

    def upload(self):
        self.uploaded = True

    def launch(self):
        assert self.uploaded
        refuse("a graph")
        state.replays += 1
        for again in self.noted:
            again()


class MemoryPool:
    """A pool, by name alone. What lies free in one that goes is lost, as with CuPy 14, but by `free_all_blocks`."""

    def malloc(self, size):
        raise NotImplementedError

    emptied = False

    def free_all_blocks(self):
        self.emptied = True


@contextlib.contextmanager
def using_allocator(malloc):
    state.pool = malloc
    try:
        yield
    finally:
        state.pool = None


class Device:
    """The only one."""

    id = 0

    def __str__(self):
        return "<CUDA Device 0>"

    mem_info = 1 << 40, 1 << 40

    def synchronize(self):
        refuse("waiting for the device")
        for copy in list(state.copies):
            copy.wait()


device = Device()
null = state.current = Stream()
null.ptr = 0
cuda = types.SimpleNamespace(
    alloc_pinned_memory=alloc_pinned_memory,
    Stream=Stream, Event=Event, MemoryPool=MemoryPool, using_allocator=using_allocator, Device=lambda: device,
    get_current_stream=lambda: state.current,
)  # fmt: skip


WAITS = "clip", "nonzero", "sign", "unique_all", "unique_counts", "unique_inverse", "unique_values"


class Namespace:
    """The functions of the array API, for these arrays."""

    ndarray = ndarray

    def asarray(self, x, dtype=None, device=None, copy=None):
        if not isinstance(x, ndarray):
            refuse("a copy from the host")
            return ndarray(np.array(x, dtype))
        return x.copy() if copy else x if dtype is None else x.astype(dtype, copy=False)

    def astype(self, x, dtype, copy=True):
        return x.astype(dtype, copy=copy)

    def matmul(self, a, b, out=None):
        if state.capturing is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        return compute(np.matmul, a, b, **({} if out is None else {"out": out}))

    def __getattr__(self, name):
        thing = getattr(np, name)
        if not callable(thing) or isinstance(thing, type):
            return thing

        def function(*args, device=None, **kwargs):
            if name in WAITS or (name in ("concat", "stack") and len(args[0]) > 8):  # more addresses go to the device
                refuse(name)
            return compute(thing, *args, **kwargs)

        return function


xp = Namespace()
