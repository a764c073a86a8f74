// CUDA kernels on a CPU, for the tests: g++ compiles this file, which includes kernels.cu. The threads of a block are
// fibers that take turns. One runs until it has to wait for others, so a missing __syncthreads() shows: what another
// thread should have written is not there yet. Blocks run one after another.
//
// A fiber is made once, and entered and left by _setjmp and _longjmp: swapcontext would ask the operating system for the
// signal mask each time, which takes longer than most threads do.

#undef _FORTIFY_SOURCE  // it takes a jump to another stack for a fault

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <memory>
#include <vector>

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static  // one block at a time

static uint32_t __float_as_uint(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static float __uint_as_float(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }

namespace emulator {

struct Barrier { unsigned members = 0, arrived = 0, turn = 0; };
struct Fiber { jmp_buf place; Index thread; bool done; std::unique_ptr<char[]> stack; };

static jmp_buf scheduler;
static std::vector<Fiber> fibers;
static std::vector<Barrier> warps;
static std::vector<double> lanes;
static Barrier block;
static unsigned current;
static bool progress;

typedef long long Int;
typedef void (*Kernel)(Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int,
                       double, double, double, double, double, double, double, double);
static Kernel kernel;
static const Int* I;
static const double* D;

static void enter(Fiber& f) {
    if (!_setjmp(scheduler)) _longjmp(f.place, 1);
}

static void leave(Fiber& f) {
    if (!_setjmp(f.place)) _longjmp(scheduler, 1);
}

static void wait(Barrier& b) {
    const unsigned turn = b.turn;
    if (++b.arrived == b.members) {
        b.arrived = 0;
        ++b.turn;
    } else
        while (b.turn == turn) leave(fibers[current]);
    progress = true;
}

static void body() {
    for (;;) {
        leave(fibers[current]);
        // Pointers and whole numbers are passed apart from floats, so that their order among each other does not matter.
        kernel(I[0], I[1], I[2], I[3], I[4], I[5], I[6], I[7], I[8], I[9], I[10], I[11], I[12], I[13], I[14], I[15],
               I[16], I[17], I[18], I[19], D[0], D[1], D[2], D[3], D[4], D[5], D[6], D[7]);
        fibers[current].done = progress = true;
    }
}

// As many fibers as a block has threads, each about to call the kernel.
static void make_fibers(unsigned threads) {
    static ucontext_t begin;
    fibers.resize(threads);
    for (current = 0; current < threads; ++current) {
        Fiber& f = fibers[current];
        f.stack.reset(new char[1 << 15]);
        getcontext(&begin);
        begin.uc_stack.ss_sp = f.stack.get();
        begin.uc_stack.ss_size = 1 << 15;
        makecontext(&begin, body, 0);
        if (!_setjmp(scheduler)) setcontext(&begin);
    }
}

static bool run_block(unsigned threads) {
    block = Barrier{threads};
    warps.assign((threads + 31) / 32, Barrier{});
    for (unsigned t = 0; t < threads; ++t) {
        Fiber& f = fibers[t];
        ++warps[t / 32].members;
        f.thread = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
        f.done = false;
    }
    // One warp runs until all its threads wait for other warps, so that it is as far ahead of them as it can be.
    for (unsigned left = threads; left;) {
        bool any = false;
        left = 0;
        for (unsigned warp = 0; warp < threads; warp += 32) {
            do {
                progress = false;
                for (current = warp; current < threads && current < warp + 32; ++current)
                    if (!fibers[current].done) {
                        threadIdx = fibers[current].thread;
                        enter(fibers[current]);
                    }
                any = any || progress;
            } while (progress);
        }
        for (unsigned t = 0; t < threads; ++t) left += !fibers[t].done;
        if (left && !any) return false;  // some wait for others that have ended or wait elsewhere
    }
    return true;
}

}  // namespace emulator

static unsigned atomicInc(unsigned* p, unsigned last) {
    const unsigned before = *p;
    *p = before >= last ? 0 : before + 1;
    return before;
}
static void __threadfence() {}

static void __syncthreads() { emulator::wait(emulator::block); }

template <class X> X __shfl_xor_sync(unsigned, X v, int distance) {
    using namespace emulator;
    Barrier& warp = warps[current / 32];
    lanes[current] = v;
    wait(warp);
    v = X(lanes[current ^ distance]);
    wait(warp);
    return v;
}

// Returns 0, or 1 if the threads of a block wait for each other for ever.
extern "C" int launch(void* kernel, const unsigned* grid, const unsigned* threads, const long long* ints,
                      const double* doubles) {
    using namespace emulator;
    emulator::kernel = reinterpret_cast<Kernel>(kernel);
    I = ints;
    D = doubles;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads[0], threads[1], threads[2]};
    const unsigned count = threads[0] * threads[1] * threads[2];
    lanes.resize(count < 32 ? 32 : count);
    if (fibers.size() < count) make_fibers(count);
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = grid[0]; x--;) {  // a GPU may take them in any order
                blockIdx = {x, y, z};
                if (!run_block(count)) {
                    fibers.clear();  // some are within the kernel
                    return 1;
                }
            }
    return 0;
}

#include KERNELS
