"""Compiled work that is shared among threads which wait for it awake.

To wake a thread that sleeps takes the system tens of microseconds, as long as many a product of a step. So one that has
done its part looks out for more, in compiled code and without Python's lock, for about 0.2 ms, and sleeps only then:
while it looks out, handing it work takes 1 us. Threads of the matrix library that look out for work at the same time
would take half of the processors from these; that is why products are done here, too, which the library could do as
fast.

What is to be done lies on a desk, an array of integers. One of them is the ticket: how many pieces there are, and which
is the next that nobody has begun. Whoever succeeds in raising it by one does that piece. The thread that has handed the
work out takes pieces like the others, so that all get done even if none of the others is awake.
"""

import functools
import os
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpunn.kernels.cpu import threads
from gpunn.kernels.cpu.fast._jit import called, jit

__all__ = ["ENOUGH_AWAKE", "run", "shared"]

ENOUGH_AWAKE = 1 << 18  # multiplications in matrix products worth handing to a thread that is awake: 3 us
PATIENCE = 1 << 13  # looks at the desk before a thread sleeps
BITS = 20  # of the ticket for the next piece; the number of pieces is in those above

# Places on the desk; those that several threads write to are in cache lines of their own.
TICKET, DONE, ASLEEP, CALLED, FUNCTION, ARGUMENTS, SIZE, LENGTH, FAILED, PLACES = 0, 8, 16, 24, 32, 33, 34, 35, 36, 40

NO_DESK = np.zeros(PLACES, np.int64)  # for a thread that does all pieces alone: it is not looked at

INT, ADDRESS = ir.IntType(64), ir.IntType(8).as_pointer()
WORK = ir.FunctionType(ir.IntType(1), [ADDRESS, INT, INT])  # does a piece, (arguments, start, stop); whether it failed


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """The address of array[place]."""
    return builder.gep(context.make_array(kind)(context, builder, value=array).data, [place])


@intrinsic
def _look(typing, desk, place):
    """What lies there now; what its writer wrote before is seen from then on."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_at(context, builder, desk, *arguments), "acquire", 8)

    return types.int64(desk, place), generate


@intrinsic
def _put(typing, desk, place, value):
    """Put it there, after all that was written before."""

    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[2], _at(context, builder, desk, *arguments[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(desk, place, types.int64), generate


@intrinsic
def _count(typing, desk, place):
    """Add 1."""

    def generate(context, builder, signature, arguments):
        builder.atomic_rmw("add", _at(context, builder, desk, *arguments), INT(1), "acq_rel")
        return context.get_dummy_value()

    return types.void(desk, place), generate


@intrinsic
def _swap(typing, desk, place, old, new):
    """Put `new` there, provided that `old` still is; returns whether it was."""

    def generate(context, builder, signature, arguments):
        at = _at(context, builder, desk, *arguments[:2])
        return builder.extract_value(builder.cmpxchg(at, *arguments[2:], "acq_rel", "acquire"), 1)

    return types.boolean(desk, place, types.int64, types.int64), generate


@intrinsic
def _pause(typing):
    """Wait for an instant, in which a processor of two threads works for the other."""

    def generate(context, builder, signature, arguments):
        if builder.module.triple.startswith(("x86", "amd64")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _lay_out(typing, part, arguments):
    """What does a piece: the addresses of a function that calls `part` and, until the caller returns, its arguments."""
    kind = part.get_call_type(typing, (*arguments.types, types.uintp, types.uintp), {})  # compiles it

    def generate(context, builder, signature, given):
        compiled = part.dispatcher.overloads[kind.args]
        context.active_code_library.add_linking_library(compiled.library)
        values = cgutils.alloca_once_value(builder, given[1])
        function = ir.Function(builder.module, WORK, builder.module.get_unique_name("piece"))
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        place, start, stop = function.args
        items = cgutils.unpack_tuple(inside, inside.load(inside.bitcast(place, values.type)))
        status, _ = context.call_internal_no_propagate(inside, compiled.fndesc, kind, [*items, start, stop])
        inside.ret(status.is_error)
        return context.make_tuple(
            builder, signature.return_type, [builder.ptrtoint(p, INT) for p in (function, values)]
        )

    return types.UniTuple(types.int64, 2)(part, arguments), generate


@intrinsic
def _call(typing, function, arguments, start, stop):
    """Call the function at one address with the arguments at another, for one piece; returns whether that failed."""

    def generate(context, builder, signature, given):
        function = builder.inttoptr(given[0], WORK.as_pointer())
        return builder.call(function, [builder.inttoptr(given[1], ADDRESS), given[2], given[3]])

    return types.boolean(*[types.int64] * 4), generate


@called
def _left(ticket):
    """How many pieces nobody has begun."""
    return (ticket >> BITS) - (ticket & ((1 << BITS) - 1))


@called
def _take(desk):
    """Do pieces for as long as there are some that nobody has begun."""
    ticket = _look(desk, TICKET)
    while _left(ticket) > 0:
        if _swap(desk, TICKET, ticket, ticket + 1):
            start = (ticket & ((1 << BITS) - 1)) * desk[LENGTH]
            if _call(desk[FUNCTION], desk[ARGUMENTS], start, min(start + desk[LENGTH], desk[SIZE])):
                _put(desk, FAILED, 1)
            _count(desk, DONE)
        ticket = _look(desk, TICKET)


@called
def _hand_out(work, desk, size, length):
    """Have all pieces done of some work, each but the last of this length."""
    if length >= size:
        if _call(*work, 0, size):
            raise MemoryError  # nothing else goes wrong in compiled code
        return
    (desk[FUNCTION], desk[ARGUMENTS]), desk[SIZE], desk[LENGTH], desk[FAILED] = work, size, length, 0
    pieces = (size + length - 1) // length
    _put(desk, DONE, 0)
    _put(desk, TICKET, pieces << BITS)
    _put(desk, CALLED, 0)
    _take(desk)
    while _look(desk, DONE) < pieces:
        _pause()
    if _look(desk, FAILED):
        raise MemoryError


@jit
def _serve(desk, pieces_of_python):
    """Do pieces until there have been none for a while and none are announced, or until pieces of Python's wait."""
    looks = 0
    while looks < PATIENCE and _look(pieces_of_python, 0) == 0:
        if _left(_look(desk, TICKET)) > 0:
            _take(desk)
            looks = 0
        else:
            _pause()
            looks = 0 if _look(desk, CALLED) else looks + 1
    _count(desk, ASLEEP)


@jit
def _clear(desk, place):
    """Put 0 there, and return what was there."""
    number = _look(desk, place)
    while not _swap(desk, place, number, 0):
        number = _look(desk, place)
    return number


def _shared(desk, size, length, *arguments):
    _hand_out(_lay_out(_part, arguments), desk, size, length)  # type: ignore[name-defined]  # noqa: F821


def shared(part: Callable[..., None]) -> Callable[..., None]:
    """Compile what does a piece, `part(*arguments, start, stop)`, as a function for `run`.

    Start and stop are unsigned: indices that may be below 0 keep a loop from being done in vectors.

    Numba keeps a compiled function beside the file where it stands, and notices when that has changed: this one says
    that it stands where `part` does.
    """
    place = part.__code__
    code = _shared.__code__.replace(
        co_filename=place.co_filename, co_firstlineno=place.co_firstlineno, co_name=place.co_name
    )
    known = {"_part": called(part), "_lay_out": _lay_out, "_hand_out": _hand_out, "__name__": part.__module__}
    function = FunctionType(code, known, part.__name__)
    function.__qualname__ = part.__qualname__
    return jit(function)


class _Team:
    """The threads, and the desk that they look at."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.desk = np.zeros(PLACES + 8, np.int64)
        self.desk = self.desk[-self.desk.ctypes.data // 8 % 8 :][:PLACES]  # begins with a cache line
        self.desk[ASLEEP] = threads.threads() - 1

    def run(self) -> None:
        """What a woken thread does."""
        _serve(self.desk, threads.waiting)


@functools.cache
def _team() -> _Team:
    return _Team()


def run(function: Callable[..., None], arguments: tuple[Any, ...], size: int, least: int, *, align: int = 1) -> None:
    """Call a `shared` function for slices that together are 0 to `size`, side by side, each at least `least` long.

    They begin at multiples of `align`. Where another thread is doing the same, this one does all by itself.
    """
    if size < 2 * least or (pieces := min(threads.threads(), size // least)) < 2:
        function(NO_DESK, size, size, *arguments)
        return
    team = _team()
    if team.busy.locked():
        function(NO_DESK, size, size, *arguments)
        return
    with team.busy:  # not acquire(): Ctrl-C after it, and nobody would ever release the lock
        try:
            team.desk[CALLED] = 1
            if team.desk[ASLEEP]:
                for _ in range(_clear(team.desk, ASLEEP)):
                    threads.wake(team)
            function(team.desk, size, -(-size // (pieces * align)) * align, *arguments)
        except BaseException:
            _team.cache_clear()  # some may not have been woken, though ASLEEP is 0 already: begin with a new team
            raise
        finally:
            team.desk[CALLED] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.cache_clear)  # threads do not live on in a child process
