// All CUDA kernels of gpunn, compiled once for each data type: STORED is the type of the numbers in memory (float,
// double or bf16), COMPUTED the one they are computed with (float or double), in which sums over the batch, means,
// variances and the masks of dropout are stored, too. No header is included.
//
// A kernel has the name of its op after gn_. Its arguments are pointers, i64 and double alone, which is what Python's
// numbers become. Every kernel is right for any number of blocks. Sums are taken in double and in an order that follows
// from the launch alone, so that the same numbers give the same bits.

typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

struct bf16 {  // the upper half of a float
    unsigned short bits;
    bf16() = default;
    __device__ __forceinline__ bf16(float x) {
        u32 b = __float_as_uint(x);
        bits = x != x ? 0x7fc0 : (b + 0x7fff + (b >> 16 & 1)) >> 16;  // to the nearest, ties to even
    }
    __device__ __forceinline__ operator float() const { return __uint_as_float(u32(bits) << 16); }
};

typedef STORED T;
typedef COMPUTED A;

template <int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack { T v[N]; };
constexpr int WIDE = 16 / sizeof(T);  // numbers in 16 bytes, the most that a thread moves at once

#define KERNEL extern "C" __global__ void
#define INLINE __device__ __forceinline__

INLINE i64 first() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
INLINE i64 stride() { return i64(gridDim.x) * blockDim.x; }
INLINE i64 modulo(i64 i, i64 m) { return i >> 32 ? i % m : u32(i) % u32(m); }  // 64-bit division is slow
INLINE bool aligned(u64 addresses) { return addresses % 16 == 0; }

// NaN as the first number stays NaN in these two.
INLINE A lesser(A a, A b) { return b < a ? b : a; }
INLINE A larger(A a, A b) { return b > a ? b : a; }

// ---------------------------------------------------------------------------------------------------------------------
// Elementwise

// f(v, i) for each place i, where v[k] is the number there in array k. Arrays from FROM on are read, the first TO are
// written, with what f left in v.
template <int N, int FROM, int TO, class F> INLINE void each(T* const (&p)[N], i64 n, F f) {
    u64 addresses = 0;
    for (int k = 0; k < N; ++k) addresses |= u64(p[k]);
    const i64 packs = aligned(addresses) ? n / WIDE : 0;
    for (i64 i = first(); i < packs; i += stride()) {
        Pack<WIDE> pack[N];
#pragma unroll
        for (int k = FROM; k < N; ++k) pack[k] = reinterpret_cast<const Pack<WIDE>*>(p[k])[i];
#pragma unroll
        for (int j = 0; j < WIDE; ++j) {
            A v[N];
#pragma unroll
            for (int k = FROM; k < N; ++k) v[k] = A(pack[k].v[j]);
            f(v, i * WIDE + j);
#pragma unroll
            for (int k = 0; k < TO; ++k) pack[k].v[j] = T(v[k]);
        }
#pragma unroll
        for (int k = 0; k < TO; ++k) reinterpret_cast<Pack<WIDE>*>(p[k])[i] = pack[k];
    }
    for (i64 i = packs * WIDE + first(); i < n; i += stride()) {
        A v[N];
        for (int k = FROM; k < N; ++k) v[k] = A(p[k][i]);
        f(v, i);
        for (int k = 0; k < TO; ++k) p[k][i] = T(v[k]);
    }
}

INLINE A logistic(A x) { return A(1) / (A(1) + exp(lesser(-x, A(87)))); }
INLINE A hard_logistic(A x) { return larger(lesser(x * A(1.0 / 6.0) + A(0.5), A(1)), A(0)); }
INLINE A soft_plus(A x) { return log1p(exp(-fabs(x))) + larger(x, A(0)); }
INLINE A gelu_u(A x) { return A(0.7978845608028654) * (x + A(0.044715) * (x * x * x)); }

#define FORWARD(name, formula)                                                        \
    KERNEL gn_##name(T* y, T* from, i64 n, double constant) {                         \
        const A alpha = A(constant);                                                  \
        T* p[] = {y, from};                                                           \
        each<2, 1, 1>(p, n, [=](A* v, i64) { const A x = v[1]; v[0] = (formula); });  \
        (void)alpha;                                                                  \
    }
#define BACKWARD(name, kept, formula)                                                                         \
    KERNEL gn_##name##_backward(T* dx, T* from, T* with, i64 n, double constant) {                            \
        const A alpha = A(constant);                                                                          \
        T* p[] = {dx, from, with};                                                                            \
        each<3, 1, 1>(p, n, [=](A* v, i64) { const A dy = v[1], kept = v[2]; v[0] = dy * (formula); });       \
        (void)alpha;                                                                                          \
    }

#define SELU_LAMBDA A(1.0507009873554804934193349852946)
#define SELU_BOTH A(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717)

FORWARD(sigmoid, logistic(x))
BACKWARD(sigmoid, y, (A(1) - y) * y)
FORWARD(hard_sigmoid, hard_logistic(x))
BACKWARD(hard_sigmoid, y, y > A(0) && y < A(1) ? A(1.0 / 6.0) : A(0))
FORWARD(tanh, tanh(x))
BACKWARD(tanh, y, A(1) - y * y)
FORWARD(relu, larger(x, A(0)))
BACKWARD(relu, y, y > A(0) ? A(1) : A(0))
FORWARD(leaky_relu, larger(x, alpha * x))
BACKWARD(leaky_relu, x, x > A(0) ? A(1) : alpha)
FORWARD(elu, x > A(0) ? x : alpha * expm1(x))
BACKWARD(elu, y, y > A(0) ? A(1) : alpha + y)
FORWARD(selu, x > A(0) ? SELU_LAMBDA * x : SELU_BOTH * expm1(x))
BACKWARD(selu, y, y > A(0) ? SELU_LAMBDA : SELU_BOTH + y)
FORWARD(softplus, soft_plus(x))
BACKWARD(softplus, y, -expm1(-y))
FORWARD(silu, x * logistic(x))
FORWARD(hard_swish, x * hard_logistic(x))
FORWARD(mish, x * tanh(soft_plus(x)))
FORWARD(exponential, exp(lesser(x, A(87))))
BACKWARD(exponential, y, y)
FORWARD(gelu, A(0.5) * x * (A(1) + tanh(gelu_u(x))))

INLINE A silu_slope(A x) { const A s = logistic(x); return s * (A(1) + x * (A(1) - s)); }
BACKWARD(silu, x, silu_slope(x))
INLINE A hard_swish_slope(A x) {
    const A h = hard_logistic(x);
    return h + (h > A(0) && h < A(1) ? x * A(1.0 / 6.0) : A(0));
}
BACKWARD(hard_swish, x, hard_swish_slope(x))
INLINE A mish_slope(A x) { const A t = tanh(soft_plus(x)); return t + (A(1) - t * t) * logistic(x) * x; }
BACKWARD(mish, x, mish_slope(x))
INLINE A gelu_slope(A x) {
    const A t = tanh(gelu_u(x)), slope = A(0.7978845608028654) * (A(1) + A(3 * 0.044715) * (x * x));
    return A(0.5) * (A(1) + t + x * (A(1) - t * t) * slope);
}
BACKWARD(gelu, x, gelu_slope(x))

// y = gamma x + beta, with gamma and beta for each of the m columns; without gamma where that is null, and likewise beta.
KERNEL gn_scale_shift(T* y, T* x, const T* gamma, const T* beta, i64 n, i64 m) {
    T* p[] = {y, x};
    each<2, 1, 1>(p, n, [=](A* v, i64 i) {
        const i64 c = modulo(i, m);
        v[0] = (gamma ? v[1] * A(gamma[c]) : v[1]) + (beta ? A(beta[c]) : A(0));
    });
}

KERNEL gn_prelu(T* y, T* x, const T* a, i64 n, i64 m) {
    T* p[] = {y, x};
    each<2, 1, 1>(p, n, [=](A* v, i64 i) { v[0] = v[1] > A(0) ? v[1] : A(a[modulo(i, m)]) * v[1]; });
}

KERNEL gn_prelu_backward(T* dx, T* dy, T* x, const T* a, i64 n, i64 m) {
    T* p[] = {dx, dy, x};
    each<3, 1, 1>(p, n, [=](A* v, i64 i) { v[0] = v[2] > A(0) ? v[1] : A(a[modulo(i, m)]) * v[1]; });
}

// From float32 to the stored type, and back.
template <class X, class Y> INLINE void cast(Y* y, const X* x, i64 n) {
    struct alignas(4 * sizeof(X) < 16 ? 4 * sizeof(X) : 16) From { X v[4]; };
    struct alignas(4 * sizeof(Y) < 16 ? 4 * sizeof(Y) : 16) To { Y v[4]; };
    const i64 packs = aligned(u64(y) | u64(x)) ? n / 4 : 0;
    for (i64 i = first(); i < packs; i += stride()) {
        const From from = reinterpret_cast<const From*>(x)[i];
        To to;
#pragma unroll
        for (int j = 0; j < 4; ++j) to.v[j] = Y(from.v[j]);
        reinterpret_cast<To*>(y)[i] = to;
    }
    for (i64 i = 4 * packs + first(); i < n; i += stride()) y[i] = Y(x[i]);
}

KERNEL gn_round(T* y, const float* x, i64 n) { cast(y, x, n); }
KERNEL gn_widen(float* y, const T* x, i64 n) { cast(y, x, n); }

// --- y = relu(y + bias) in place, with a bit for each number above 0, as the matrix product's epilogue keeps them: bit
// c of row r is bit c % 8 of byte c / 8, and rows are `bytes` apart. bias may be null.

KERNEL gn_bias_relu_mask(T* y, const T* bias, u8* mask, i64 n, i64 m, i64 bytes) {
    for (i64 i = first(); i < n * bytes; i += stride()) {
        const i64 row = i / bytes, c0 = i % bytes * 8;
        u32 bits = 0;
        for (int j = 0; j < 8 && c0 + j < m; ++j) {
            T& place = y[row * m + c0 + j];
            const A x = A(place) + (bias ? A(bias[c0 + j]) : A(0));
            bits |= u32(x > A(0)) << j;
            place = T(larger(x, A(0)));
        }
        mask[i] = u8(bits);
    }
}

KERNEL gn_relu_mask_backward(T* dx, const u8* mask, i64 n, i64 m, i64 bytes) {
    for (i64 i = first(); i < n * m; i += stride()) {
        const i64 row = i / m, c = i % m;
        if (!(mask[row * bytes + c / 8] >> c % 8 & 1)) dx[i] = T(A(0));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Random numbers: Philox4x32-10 (Salmon et al., 2011), as in gpunn/ops/dropout.py

struct Words { u32 w[4]; };

INLINE Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
    for (int i = 0; i < 10; ++i) {
        const u64 p0 = u64(c0) * 0xD2511F53u, p1 = u64(c2) * 0xCD9E8D57u;
        c0 = u32(p1 >> 32) ^ c1 ^ k0;
        c1 = u32(p1);
        c2 = u32(p0 >> 32) ^ c3 ^ k1;
        c3 = u32(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

KERNEL gn_philox(i64* words, const i64* c0, i64 n, i64 c1, i64 c2, i64 c3, i64 k0, i64 k1) {
    for (i64 i = first(); i < n; i += stride()) {
        const Words r = philox(u32(c0[i]), u32(c1), u32(c2), u32(c3), u32(k0), u32(k1));
        for (int j = 0; j < 4; ++j) words[j * n + i] = r.w[j];
    }
}

// Number i is kept where word i % 4 of counter i / 4 is at least `limit`.
// The step, words 2 and 3 of the counter, comes from the device's memory where `at` is not null.
KERNEL gn_dropout(T* y, A* mask, const T* x, i64 n, i64 limit, double scale, const i64* at, i64 step, i64 k0, i64 k1) {
    struct alignas(16) Mask { A v[4]; };
    const u64 counted = u64(at ? *at : step);
    const u32 c2 = u32(counted), c3 = u32(counted >> 32);
    const bool wide = aligned(u64(y) | u64(mask) | u64(x));
    const A kept = A(scale);
    for (i64 q = first(); q < (n + 3) / 4; q += stride()) {
        const Words r = philox(u32(q), 0, c2, c3, u32(k0), u32(k1));
        Pack<4> a;
        Mask b;
        if (wide && 4 * q + 4 <= n) {
            a = reinterpret_cast<const Pack<4>*>(x)[q];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const A m = i64(r.w[j]) >= limit ? kept : A(0);
                b.v[j] = m;
                a.v[j] = T(A(a.v[j]) * m);
            }
            reinterpret_cast<Pack<4>*>(y)[q] = a;
            reinterpret_cast<Mask*>(mask)[q] = b;
        } else {
            for (int j = 0; j < 4 && 4 * q + j < n; ++j) {
                const A m = i64(r.w[j]) >= limit ? kept : A(0);
                mask[4 * q + j] = m;
                y[4 * q + j] = T(A(x[4 * q + j]) * m);
            }
        }
    }
}

KERNEL gn_dropout_backward(T* dx, T* dy, const A* mask, i64 n) {
    T* p[] = {dx, dy};
    each<2, 1, 1>(p, n, [=](A* v, i64 i) { v[0] = v[1] * mask[i]; });
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows: each is the work of a team of threads, a warp (blockDim.x = 32, several rows in a block) or a whole block
// (blockDim.y = 1). Its first thread is threadIdx.x = 0.

INLINE u32 thread() { return threadIdx.y * blockDim.x + threadIdx.x; }
INLINE u32 threads() { return blockDim.x * blockDim.y; }

// Combined over a warp, if wide == 32, or over the whole block.
template <class X, class F> INLINE X over(u32 wide, X v, F combine) {
    for (int d = 16; d; d /= 2) v = combine(v, __shfl_xor_sync(0xffffffffu, v, d));
    if (wide > 32) {
        __shared__ X of_warp[32];
        __syncthreads();  // all have read what was there before
        if (thread() % 32 == 0) of_warp[thread() / 32] = v;
        __syncthreads();
        v = of_warp[0];
        for (u32 w = 1; w < wide / 32; ++w) v = combine(v, of_warp[w]);
    }
    return v;
}

template <class X> INLINE X sum_over(u32 wide, X v) { return over(wide, v, [](X a, X b) { return a + b; }); }
template <class X> INLINE X team_sum(X v) { return sum_over(blockDim.x, v); }
template <class X> INLINE X team_max(X v) { return over(blockDim.x, v, [](X a, X b) { return b > a ? b : a; }); }

template <class F> INLINE void each_row(i64 n, F f) {
    for (i64 r = i64(blockIdx.x) * blockDim.y + threadIdx.y; r < n; r += i64(gridDim.x) * blockDim.y) f(r);
}

#define ALONG(j, m) for (i64 j = threadIdx.x; j < m; j += blockDim.x)

// sum = scale times the sum of all threads' v. The last block to come here adds up what each has left in `parts`, and in
// one order, whichever block that is. Of the kernels that count on `blocks_done` one runs at a time.
__device__ u32 blocks_done;

INLINE void add_up(A* sum, double* parts, double v, double scale) {
    __shared__ bool last;
    v = sum_over(threads(), v);
    if (thread() == 0) {
        parts[blockIdx.x] = v;
        __threadfence();  // what is left is to be seen before it is counted
        last = atomicInc(&blocks_done, gridDim.x - 1) == gridDim.x - 1;  // which begins anew at 0
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    v = 0;
    for (u32 i = thread(); i < gridDim.x; i += threads()) v += static_cast<volatile double*>(parts)[i];
    v = sum_over(threads(), v);
    if (thread() == 0) sum[0] = A(v * scale);
}

KERNEL gn_softmax(T* y, const T* z, i64 n, i64 m) {
    each_row(n, [=](i64 row) {
        const T* from = z + row * m;
        A top = A(from[0]), sum = A(0);
        ALONG(j, m) top = larger(top, A(from[j]));
        top = team_max(top);
        ALONG(j, m) sum += exp(A(from[j]) - top);
        sum = team_sum(sum);
        ALONG(j, m) y[row * m + j] = T(exp(A(from[j]) - top) / sum);
    });
}

KERNEL gn_softmax_backward(T* dz, const T* dy, const T* y, i64 n, i64 m) {
    each_row(n, [=](i64 row) {
        A sum = A(0);
        ALONG(j, m) sum += A(dy[row * m + j]) * A(y[row * m + j]);
        sum = team_sum(sum);
        ALONG(j, m) dz[row * m + j] = T((A(dy[row * m + j]) - sum) * A(y[row * m + j]));
    });
}

// The softmax p and the gradient dz = (p - y) / n, either of which may be null, of the loss: the mean over the rows of
// -log p of the right class. A class number that is out of range stands for a row of zeros, as in one_hot.
KERNEL gn_softmax_cross_entropy(T* p, T* dz, A* loss, double* parts, const T* z, const i64* labels, i64 n, i64 m) {
    double losses = 0;
    each_row(n, [&](i64 row) {
        const T* from = z + row * m;
        const i64 label = labels[row];
        A top = A(from[0]), sum = A(0);
        ALONG(j, m) top = larger(top, A(from[j]));
        top = team_max(top);
        ALONG(j, m) sum += exp(A(from[j]) - top);
        sum = team_sum(sum);
        ALONG(j, m) {
            const A share = exp(A(from[j]) - top) / sum;
            if (p) p[row * m + j] = T(share);
            if (dz) dz[row * m + j] = T((share - (j == label ? A(1) : A(0))) / A(n));
        }
        if (threadIdx.x == 0) losses += label >= 0 && label < m ? log(sum) - (A(from[label]) - top) : top - top;
    });
    add_up(loss, parts, losses, 1.0 / n);
}

KERNEL gn_softmax_cross_entropy_backward(T* dz, T* p, const i64* labels, i64 n, i64 m) {
    T* a[] = {dz, p};
    each<2, 1, 1>(a, n * m, [=](A* v, i64 i) {
        const i64 row = i / m;
        v[0] = (v[1] - (i - row * m == labels[row] ? A(1) : A(0))) / A(n);
    });
}

KERNEL gn_normalize_rows(T* y, A* r, A* mu, A* v, const T* x, i64 n, i64 m, double epsilon) {
    each_row(n, [=](i64 row) {
        const T* from = x + row * m;
        A sum = A(0), squares = A(0);
        ALONG(j, m) sum += A(from[j]);
        const A mean = team_sum(sum) / A(m);
        ALONG(j, m) { const A d = A(from[j]) - mean; squares += d * d; }
        const A variance = team_sum(squares) / A(m), scale = A(1) / sqrt(variance + A(epsilon));
        ALONG(j, m) y[row * m + j] = T((A(from[j]) - mean) * scale);
        if (threadIdx.x == 0) { r[row] = scale; mu[row] = mean; v[row] = variance; }
    });
}

KERNEL gn_normalize_rows_backward(T* dx, const T* dy, const T* y, const A* r, i64 n, i64 m) {
    each_row(n, [=](i64 row) {
        A plain = A(0), with_y = A(0);
        ALONG(j, m) { const A d = A(dy[row * m + j]); plain += d; with_y += d * A(y[row * m + j]); }
        plain = team_sum(plain) / A(m);
        with_y = team_sum(with_y) / A(m);
        ALONG(j, m) {
            const i64 i = row * m + j;
            dx[i] = T((A(dy[i]) - plain - A(y[i]) * with_y) * r[row]);
        }
    });
}

KERNEL gn_rms_normalize(T* y, A* r, const T* x, i64 n, i64 m, double epsilon) {
    each_row(n, [=](i64 row) {
        A squares = A(0);
        ALONG(j, m) { const A d = A(x[row * m + j]); squares += d * d; }
        const A scale = A(1) / sqrt(team_sum(squares) / A(m) + A(epsilon));
        ALONG(j, m) y[row * m + j] = T(A(x[row * m + j]) * scale);
        if (threadIdx.x == 0) r[row] = scale;
    });
}

KERNEL gn_rms_normalize_backward(T* dx, const T* dy, const T* y, const A* r, i64 n, i64 m) {
    each_row(n, [=](i64 row) {
        A with_y = A(0);
        ALONG(j, m) with_y += A(dy[row * m + j]) * A(y[row * m + j]);
        with_y = team_sum(with_y) / A(m);
        ALONG(j, m) {
            const i64 i = row * m + j;
            dx[i] = T((A(dy[i]) - A(y[i]) * with_y) * r[row]);
        }
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Sums over all numbers, or over the rows: each block leaves the sum of its part in `parts`. Those of a loss its last
// block adds up (see add_up), all others the kernel that comes next.

KERNEL gn_squares(double* parts, T* g, i64 n) {
    double s = 0;
    T* p[] = {g};
    each<1, 0, 0>(p, n, [&](A* v, i64) { s += double(v[0]) * double(v[0]); });
    s = team_sum(s);
    if (threadIdx.x == 0) parts[blockIdx.x] = s;
}

// g <- g min(1, limit / norm), norm = sqrt of the sum of parts (blocks of them): every block adds them up for itself.
KERNEL gn_clip_by_norm(T* g, T* norm, const double* parts, i64 blocks, i64 n, double limit) {
    double s = 0;
    ALONG(i, blocks) s += parts[i];
    const A size = A(sqrt(team_sum(s)));
    if (blockIdx.x == 0 && threadIdx.x == 0) norm[0] = T(size);
    if (size <= A(limit)) return;
    const A factor = A(limit) / size;
    T* p[] = {g};
    each<1, 0, 1>(p, n, [=](A* v, i64) { v[0] *= factor; });
}

// x = g / (norm + epsilon), with the norm as above.
KERNEL gn_unit(T* x, T* g, const double* parts, i64 blocks, i64 n, double epsilon) {
    double s = 0;
    ALONG(i, blocks) s += parts[i];
    const A size = A(sqrt(team_sum(s))) + A(epsilon);
    T* p[] = {x, g};
    each<2, 1, 1>(p, n, [=](A* v, i64) { v[0] = v[1] / size; });
}

#define LOSS(name, saved, term)                                                                              \
    KERNEL gn_##name(T* out, A* loss, double* parts, T* from, T* targets, i64 n, double scale) {             \
        double s = 0;                                                                                        \
        T* p[] = {out, from, targets};                                                                       \
        each<3, 1, 1>(p, n, [&](A* v, i64) {                                                                 \
            const A z = v[1], y = v[2], a = (saved);                                                         \
            v[0] = a;                                                                                        \
            s += double(term);                                                                               \
        });                                                                                                  \
        add_up(loss, parts, s, scale);                                                                       \
    }
#define SLOPE(name, formula)                                                                                 \
    KERNEL gn_##name##_backward(T* dz, T* saved, T* targets, i64 n, double rows) {                           \
        T* p[] = {dz, saved, targets};                                                                       \
        each<3, 1, 1>(p, n, [=](A* v, i64) { const A a = v[1], y = v[2]; v[0] = (formula) / A(rows); });     \
    }

LOSS(sigmoid_cross_entropy, logistic(z), soft_plus(z) - z * y)
SLOPE(sigmoid_cross_entropy, a - y)
LOSS(quadratic, logistic(z), (a - y) * (a - y))
SLOPE(quadratic, (a - y) * a * (A(1) - a))
LOSS(mean_squared_error, z - y, a * a)

// parts[(chunk * K + k) * m + column] = the sum over the rows of a chunk of what f puts in v[k]. Blocks are of
// blockDim.x columns, blockDim.y (a power of two) rows side by side; blockDim.x * blockDim.y <= 256.
template <int K, class F> INLINE void over_rows(double* parts, i64 n, i64 m, F f) {
    __shared__ double of_thread[K][256];
    const i64 column = first();
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    double s[K] = {};
    if (column < m)
        for (i64 row = i64(blockIdx.y) * blockDim.y + threadIdx.y; row < n; row += i64(gridDim.y) * blockDim.y) {
            A v[K];
            f(row * m + column, column, v);
            for (int k = 0; k < K; ++k) s[k] += double(v[k]);
        }
    for (int k = 0; k < K; ++k) of_thread[k][t] = s[k];
    for (int half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int k = 0; k < K; ++k) of_thread[k][t] += of_thread[k][t + half * blockDim.x];
    }
    if (threadIdx.y == 0 && column < m)
        for (int k = 0; k < K; ++k) parts[(blockIdx.y * K + k) * m + column] = of_thread[k][t];
}

KERNEL gn_sum_rows(double* parts, const T* x, i64 n, i64 m) {
    over_rows<1>(parts, n, m, [=](i64 i, i64, A* v) { v[0] = A(x[i]); });
}

KERNEL gn_sum_rows_with(double* parts, const T* dy, const T* x, i64 n, i64 m) {  // of dy x, and of dy
    over_rows<2>(parts, n, m, [=](i64 i, i64, A* v) { v[1] = A(dy[i]); v[0] = v[1] * A(x[i]); });
}

KERNEL gn_sum_rows_prelu(double* parts, const T* dy, const T* x, i64 n, i64 m) {
    over_rows<1>(parts, n, m, [=](i64 i, i64, A* v) { v[0] = A(dy[i]) * lesser(A(x[i]), A(0)); });
}

KERNEL gn_sum_rows_moments(double* parts, const T* x, i64 n, i64 m) {  // of x less its first row, and of the square
    over_rows<2>(parts, n, m, [=](i64 i, i64 column, A* v) { v[0] = A(x[i]) - A(x[column]); v[1] = v[0] * v[0]; });
}

KERNEL gn_add_parts(A* sum, const double* parts, i64 chunks, i64 m, double scale) {
    for (i64 c = first(); c < m; c += stride()) {
        double s = 0;
        for (i64 k = 0; k < chunks; ++k) s += parts[k * m + c];
        sum[c] = A(s * scale);
    }
}

KERNEL gn_add_moments(A* r, A* mu, A* v, const double* parts, const T* x, i64 chunks, i64 n, i64 m, double epsilon) {
    for (i64 c = first(); c < m; c += stride()) {
        double s = 0, squares = 0;
        for (i64 k = 0; k < chunks; ++k) {
            s += parts[2 * k * m + c];
            squares += parts[(2 * k + 1) * m + c];
        }
        const double mean = s / n, variance = squares / n - mean * mean;
        const A positive = larger(A(variance), A(0));
        mu[c] = A(double(A(x[c])) + mean);
        v[c] = positive;
        r[c] = A(1) / sqrt(positive + A(epsilon));
    }
}

KERNEL gn_normalize_columns(T* y, T* x, const A* r, const A* mu, i64 n, i64 m) {
    T* p[] = {y, x};
    each<2, 1, 1>(p, n * m, [=](A* v, i64 i) {
        const i64 c = modulo(i, m);
        v[0] = (v[1] - mu[c]) * r[c];
    });
}

KERNEL gn_normalize_columns_backward(T* dx, T* dy, T* y, const A* r, const A* means, i64 n, i64 m) {
    T* p[] = {dx, dy, y};
    each<3, 1, 1>(p, n * m, [=](A* v, i64 i) {
        const i64 c = modulo(i, m);
        v[0] = (v[1] - means[m + c] - v[2] * means[c]) * r[c];
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Windows over images (N, H, W, C): pooling, and the pixels of windows as the rows of a matrix

struct Windows { i64 N, H, W, C, P, Q, U, V, down, right, above, left; };
#define WINDOWS i64 N, i64 H, i64 W, i64 C, i64 P, i64 Q, i64 U, i64 V, i64 down, i64 right, i64 above, i64 left
#define GIVEN Windows{N, H, W, C, P, Q, U, V, down, right, above, left}

template <int B> INLINE const Pack<B>& at(const T* x, i64 i) { return *reinterpret_cast<const Pack<B>*>(x + i); }
template <int B> INLINE Pack<B>& at(T* x, i64 i) { return *reinterpret_cast<Pack<B>*>(x + i); }

// Run body<WIDE> where B = WIDE channels can be moved at once, otherwise body<1>.
#define BY_CHANNELS(addresses, body) \
    if (C % WIDE == 0 && aligned(addresses)) { constexpr int B = WIDE; body; } else { constexpr int B = 1; body; }

// The first and last place along one axis from which a window of `size` lies on pixel i (padded: i + padding).
INLINE i64 first_place(i64 i, i64 size, i64 step) { return i < size ? 0 : (i - size) / step + 1; }
INLINE i64 last_place(i64 i, i64 step, i64 places) { return i / step < places - 1 ? i / step : places - 1; }

template <int B, bool MAX> INLINE void pool(T* y, const T* x, Windows s) {
    const i64 groups = s.C / B;
    for (i64 i = first(); i < s.N * s.P * s.Q * groups; i += stride()) {
        const i64 c = i % groups * B, q = i / groups % s.Q, p = i / groups / s.Q % s.P, n = i / groups / s.Q / s.P;
        A best[B];
        for (i64 u = 0; u < s.U; ++u)
            for (i64 v = 0; v < s.V; ++v) {
                const Pack<B> a = at<B>(x, ((n * s.H + p * s.down + u) * s.W + q * s.right + v) * s.C + c);
                for (int j = 0; j < B; ++j) {
                    const A value = A(a.v[j]);
                    if (u + v == 0) best[j] = value;
                    else if (!MAX) best[j] += value;
                    else if (value > best[j] || value != value) best[j] = value;
                }
            }
        Pack<B> out;
        for (int j = 0; j < B; ++j) out.v[j] = T(MAX ? best[j] : best[j] / A(s.U * s.V));
        at<B>(y, i * B) = out;
    }
}

KERNEL gn_max_pool2d(T* y, const T* x, WINDOWS) {
    BY_CHANNELS(u64(y) | u64(x), (pool<B, true>(y, x, GIVEN)))
}

KERNEL gn_avg_pool2d(T* y, const T* x, WINDOWS) {
    BY_CHANNELS(u64(y) | u64(x), (pool<B, false>(y, x, GIVEN)))
}

// Each pixel collects from the windows that it lies in; from those of which it is the first maximum if MAX.
template <int B, bool MAX> INLINE void pool_backward(T* dx, const T* dy, const T* x, const T* y, Windows s) {
    const i64 groups = s.C / B;
    for (i64 i = first(); i < s.N * s.H * s.W * groups; i += stride()) {
        const i64 c = i % groups * B, w = i / groups % s.W, h = i / groups / s.W % s.H, n = i / groups / s.W / s.H;
        A sum[B] = {};
        Pack<B> here;
        if (MAX) here = at<B>(x, i * B);
        const i64 p1 = last_place(h, s.down, s.P), q1 = last_place(w, s.right, s.Q);
        for (i64 p = first_place(h, s.U, s.down); p <= p1; ++p)
            for (i64 q = first_place(w, s.V, s.right); q <= q1; ++q) {
                const i64 out = ((n * s.P + p) * s.Q + q) * s.C + c;
                const Pack<B> d = at<B>(dy, out);
                bool mine[B];
                for (int j = 0; j < B; ++j) mine[j] = true;
                if (MAX) {
                    const Pack<B> top = at<B>(y, out);
                    for (int j = 0; j < B; ++j) mine[j] = A(here.v[j]) == A(top.v[j]);
                    const i64 before = (h - p * s.down) * s.V + w - q * s.right;
                    for (i64 k = 0; k < before; ++k) {
                        const i64 u = p * s.down + k / s.V, v = q * s.right + k % s.V;
                        const Pack<B> other = at<B>(x, ((n * s.H + u) * s.W + v) * s.C + c);
                        for (int j = 0; j < B; ++j) mine[j] = mine[j] && A(other.v[j]) != A(top.v[j]);
                    }
                }
                for (int j = 0; j < B; ++j)
                    if (mine[j]) sum[j] += A(d.v[j]);
            }
        Pack<B> out;
        for (int j = 0; j < B; ++j) out.v[j] = T(MAX ? sum[j] : sum[j] / A(s.U * s.V));
        at<B>(dx, i * B) = out;
    }
}

KERNEL gn_max_pool2d_backward(T* dx, const T* dy, const T* x, const T* y, WINDOWS) {
    BY_CHANNELS(u64(dx) | u64(dy) | u64(x) | u64(y), (pool_backward<B, true>(dx, dy, x, y, GIVEN)))
}

KERNEL gn_avg_pool2d_backward(T* dx, const T* dy, WINDOWS) {
    BY_CHANNELS(u64(dx) | u64(dy), (pool_backward<B, false>(dx, dy, dy, dy, GIVEN)))
}

// columns (NPQ, UVC): in row npq what the window lies on to make pixel npq, 0 outside the image.
template <int B> INLINE void im2col(T* columns, const T* x, Windows s) {
    const i64 groups = s.C / B;
    for (i64 i = first(); i < s.N * s.P * s.Q * s.U * s.V * groups; i += stride()) {
        i64 k = i / groups;
        const i64 c = i % groups * B, v = k % s.V, u = (k /= s.V) % s.U;
        const i64 q = (k /= s.U) % s.Q, p = (k /= s.Q) % s.P, n = k / s.P;
        const i64 h = p * s.down + u - s.above, w = q * s.right + v - s.left;
        Pack<B> out;
        if (h >= 0 && h < s.H && w >= 0 && w < s.W) out = at<B>(x, ((n * s.H + h) * s.W + w) * s.C + c);
        else
            for (int j = 0; j < B; ++j) out.v[j] = T(A(0));
        at<B>(columns, i * B) = out;
    }
}

KERNEL gn_im2col(T* columns, const T* x, WINDOWS) {
    BY_CHANNELS(u64(columns) | u64(x), im2col<B>(columns, x, GIVEN))
}

// The reverse: each pixel collects what the columns hold at the places where it was laid out.
template <int B> INLINE void col2im(T* dx, const T* columns, Windows s) {
    const i64 groups = s.C / B;
    for (i64 i = first(); i < s.N * s.H * s.W * groups; i += stride()) {
        const i64 c = i % groups * B, n = i / groups / s.W / s.H;
        const i64 w = i / groups % s.W + s.left, h = i / groups / s.W % s.H + s.above;
        A sum[B] = {};
        const i64 p1 = last_place(h, s.down, s.P), q1 = last_place(w, s.right, s.Q);
        for (i64 p = first_place(h, s.U, s.down); p <= p1; ++p)
            for (i64 q = first_place(w, s.V, s.right); q <= q1; ++q) {
                const i64 u = h - p * s.down, v = w - q * s.right;
                const Pack<B> a =
                    at<B>(columns, ((((n * s.P + p) * s.Q + q) * s.U + u) * s.V + v) * s.C + c);
                for (int j = 0; j < B; ++j) sum[j] += A(a.v[j]);
            }
        Pack<B> out;
        for (int j = 0; j < B; ++j) out.v[j] = T(sum[j]);
        at<B>(dx, i * B) = out;
    }
}

KERNEL gn_col2im(T* dx, const T* columns, WINDOWS) {
    BY_CHANNELS(u64(dx) | u64(columns), col2im<B>(dx, columns, GIVEN))
}

// ---------------------------------------------------------------------------------------------------------------------
// The first and the last kernel of a captured training step; see gpunn/kernels/cuda/graph.py. clock = {how many steps
// of the table are done, the number of the step, where the losses go}.

// y (n, m) is f of the rows of x that have the numbers `rows`, or of all rows in turn where that is null.
template <int B, class Y, class X, class F> INLINE void take(Y* y, const X* x, const i64* rows, i64 n, i64 m, F f) {
    struct alignas(B * sizeof(X) < 16 ? B * sizeof(X) : 16) From { X v[B]; };
    struct alignas(B * sizeof(Y)) To { Y v[B]; };
    const i64 groups = m / B;
    for (i64 i = first(); i < n * groups; i += stride()) {
        const i64 row = i / groups;
        const From from = reinterpret_cast<const From*>(x + (rows ? rows[row] : row) * m)[i - row * groups];
        To to;
        for (int j = 0; j < B; ++j) to.v[j] = f(from.v[j]);
        reinterpret_cast<To*>(y)[i] = to;
    }
}

template <class X, class F> INLINE void take_inputs(T* y, const X* x, const i64* rows, i64 n, i64 m, F f) {
    if (m % WIDE == 0 && aligned(u64(y) | u64(x))) take<WIDE>(y, x, rows, n, m, f);
    else take<1>(y, x, rows, n, m, f);
}

// What the step needs: its constants `now`, its batch (inputs x from numbers, or from bytes of which 0 to 255 become 0
// to 1; targets y as they are, in words of 4 bytes), and `rounded`, if it is not null, a copy of the weights.
KERNEL gn_begin_step(double* now, const i64* clock, const double* table, i64 width, const i64* order, i64 n,
                     T* x, const A* numbers, const u8* bytes, i64 m, u32* y, const u32* targets, i64 words,
                     bf16* rounded, const float* weights, i64 size) {
    const i64 k = clock[0];
    const i64* rows = order ? order + k * n : 0;
    for (i64 i = first(); i < width; i += stride()) now[i] = table[k * width + i];
    if (bytes) take_inputs(x, bytes, rows, n, m, [](u8 v) { return T(A(v) / A(255)); });
    else take_inputs(x, numbers, rows, n, m, [](A v) { return T(v); });
    take<1>(y, targets, rows, n, words, [](u32 v) { return v; });
    if (rounded) cast(rounded, weights, size);
}

KERNEL gn_end_step(i64* clock, const T* loss) {
    if (first() != 0) return;
    reinterpret_cast<T*>(clock[2])[clock[0]] = loss[0];
    ++clock[0];
    ++clock[1];
}

// ---------------------------------------------------------------------------------------------------------------------
// Optimisers: the arrays of the op with g last, and the constants of gpunn/kernels/common.py: from the device's memory
// where `at` is not null, so that a captured launch can be repeated with other ones.

#define EIGHT const double *at, double c0, double c1, double c2, double c3, double c4, double c5, double c6, double c7
#define C(i) A(at ? at[i] : c##i)
#define CONSTANTS const A c[] = {C(0), C(1), C(2), C(3), C(4), C(5), C(6), C(7)};

#define UPDATE1(name, body)                                                      \
    KERNEL gn_##name(T* w_, i64 n, EIGHT) {                                      \
        CONSTANTS                                                                \
        T* p[] = {w_};                                                           \
        each<1, 0, 1>(p, n, [=](A* x, i64) { A &w = x[0]; body });               \
    }
#define UPDATE2(name, body)                                                      \
    KERNEL gn_##name(T* w_, T* g_, i64 n, EIGHT) {                               \
        CONSTANTS                                                                \
        T* p[] = {w_, g_};                                                       \
        each<2, 0, 1>(p, n, [=](A* x, i64) { A &w = x[0], g = x[1]; body });     \
    }
#define UPDATE3(name, a, body)                                                             \
    KERNEL gn_##name(T* w_, T* a_, T* g_, i64 n, EIGHT) {                                  \
        CONSTANTS                                                                          \
        T* p[] = {w_, a_, g_};                                                             \
        each<3, 0, 2>(p, n, [=](A* x, i64) { A &w = x[0], &a = x[1], g = x[2]; body });    \
    }
#define UPDATE4(name, a, b, body)                                                                    \
    KERNEL gn_##name(T* w_, T* a_, T* b_, T* g_, i64 n, EIGHT) {                                     \
        CONSTANTS                                                                                    \
        T* p[] = {w_, a_, b_, g_};                                                                   \
        each<4, 0, 3>(p, n, [=](A* x, i64) { A &w = x[0], &a = x[1], &b = x[2], g = x[3]; body });   \
    }

UPDATE1(shrink, w *= c[0];)
UPDATE2(sgd, w -= c[0] * g;)
UPDATE2(l2_decay, w += c[0] * g;)  // the gradient is changed, by the weights
UPDATE3(momentum, v, v = c[1] * v + g; w -= c[0] * v;)
UPDATE3(nesterov, v, v = c[1] * v + g; w -= c[0] * (g + c[1] * v);)
UPDATE3(lion, m, const A s = c[0] * m + c[1] * g; w -= s > A(0) ? c[4] : s < A(0) ? -c[4] : A(0);
        m = c[2] * m + c[3] * g;)
UPDATE3(rmsprop, v, v = c[0] * v + c[1] * (g * g); w -= c[3] * (g / (sqrt(v) + c[2]));)
UPDATE3(adagrad, v, v += g * g; w -= c[1] * (g / (sqrt(v) + c[0]));)
UPDATE4(adam, m, v, m = c[0] * m + c[1] * g; v = c[2] * v + c[3] * (g * g); w -= m / (sqrt(v) + c[4]) * c[5];)
UPDATE4(nadam, m, v, m = c[0] * m + c[1] * g; v = c[2] * v + c[3] * (g * g);
        w -= (c[6] * g + c[7] * m) / (sqrt(v) / c[4] + c[5]);)
UPDATE4(adamax, m, u, m = c[0] * m + c[1] * g; u = c[2] * u; const A size = fabs(g);
        if (size > u || size != size) u = size; w -= m / (u + c[3]) * c[4];)
UPDATE4(adadelta, v, d, v = c[0] * v + c[1] * (g * g); const A step = sqrt((d + c[2]) / (v + c[2])) * g;
        d = c[0] * d + c[1] * (step * step); w -= c[3] * step;)

// What Muon makes orthogonal; it then moves the weights by that as sgd does.
KERNEL gn_muon_ahead(T* ahead, T* v_, T* g_, i64 n, EIGHT) {
    CONSTANTS
    T* p[] = {ahead, v_, g_};
    each<3, 1, 2>(p, n, [=](A* x, i64) { const A g = x[2]; x[1] = c[1] * x[1] + g; x[0] = g + c[1] * x[1]; });
}

KERNEL gn_soft_threshold(T* w, i64 n, double by) {
    T* p[] = {w};
    each<1, 0, 1>(p, n, [=](A* v, i64) { v[0] -= larger(lesser(v[0], A(by)), -A(by)); });
}
