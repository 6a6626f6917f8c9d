// SPDX-License-Identifier: Apache-2.0
//
// Floating point by SSE2, x87 and AVX2, and integer vectors by AVX2.
#include "workload.h"

#include <immintrin.h>
#include <math.h>

#define BODIES 8
#define ROWS   200

static volatile double sink;

static void fp_nbody(uint64_t iterations)
{
    double at[BODIES][3], speed[BODIES][3], mass[BODIES];
    for (int i = 0; i < BODIES; i++) {
        mass[i] = 0.1 + 0.05 * i;
        for (int axis = 0; axis < 3; axis++) {
            at[i][axis] = 0.9 * ((i * (2 * axis + 3)) % BODIES) - 3.0 + axis;
            speed[i][axis] = 0.01 * (i - axis);
        }
    }
    for (uint64_t step = 0; step < iterations; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], square = 0.01;
                for (int axis = 0; axis < 3; axis++) {
                    d[axis] = at[i][axis] - at[j][axis];
                    square += d[axis] * d[axis];
                }
                double pull = 1e-4 / (square * sqrt(square));
                for (int axis = 0; axis < 3; axis++) {
                    speed[i][axis] -= d[axis] * mass[j] * pull;
                    speed[j][axis] += d[axis] * mass[i] * pull;
                }
            }
        for (int i = 0; i < BODIES; i++)
            for (int axis = 0; axis < 3; axis++)
                at[i][axis] += 1e-4 * speed[i][axis];
    }
    sink = at[0][0] + at[3][1] + at[5][2];
}

// LU decomposition without pivots of a matrix whose diagonal dominates.
static void fp_lu(uint64_t iterations)
{
    static double a[ROWS][ROWS];
    for (uint64_t round = 0; round < iterations; round++) {
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < ROWS; j++)
                a[i][j] = (double)((i * 113 + j * 19 + (int)(round & 1023)) % 997) / 499.0 - 1.0 +
                          (i == j ? ROWS : 0);
        for (int k = 0; k < ROWS; k++) {
            double inverse = 1.0 / a[k][k];
            for (int i = k + 1; i < ROWS; i++) {
                double factor = a[i][k] *= inverse;
                for (int j = k + 1; j < ROWS; j++)
                    a[i][j] -= factor * a[k][j];
            }
        }
        sink = a[ROWS - 1][ROWS - 1];
    }
}

static void fp_libm(uint64_t iterations)
{
    double sum = 0, x = 0.1;
    for (uint64_t i = 0; i < iterations; i++) {
        sum += sin(x) * exp(-x) + log(x + 1) + pow(x, 0.37);
        x = x > 20 ? 0.1 : x + 1e-4;
    }
    sink = sum;
}

static void fp_x87(uint64_t iterations)
{
    volatile long double start = 1.000001L;
    long double factor = start, x = 1, sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        x = x * factor + 1e-9L;
        sum += x / (1 + sum * 1e-12L);
        if (x > 1e6L)
            x = 1;
    }
    sink = (double)sum;
}

static const char *missing_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? NULL
                                                                           : "no AVX2 and FMA";
}

__attribute__((target("avx2,fma"))) static void avx2_dot(uint64_t iterations)
{
    enum { FLOATS = 4096 };
    static float a[FLOATS] __attribute__((aligned(64))), b[FLOATS] __attribute__((aligned(64)));
    for (int i = 0; i < FLOATS; i++) {
        a[i] = (float)(i % 7) - 0.5f;
        b[i] = (float)(i % 5) * 0.25f;
    }
    __m256 total = _mm256_setzero_ps();
    for (uint64_t round = 0; round < iterations; round++) {
        __m256 sums[4] = {total, total, total, total};
        for (int i = 0; i < FLOATS; i += 32)
            for (int lane = 0; lane < 4; lane++)
                sums[lane] = _mm256_fmadd_ps(_mm256_load_ps(a + i + 8 * lane),
                                             _mm256_load_ps(b + i + 8 * lane), sums[lane]);
        total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        total = _mm256_mul_ps(total, _mm256_set1_ps(1e-3f));
        a[round % FLOATS] += 1e-6f;
    }
    float out[8];
    _mm256_storeu_ps(out, total);
    sink = (double)(out[0] + out[7]);
}

__attribute__((target("avx2"))) static void avx2_int(uint64_t iterations)
{
    enum { BYTES = 16384 };
    static uint8_t a[BYTES] __attribute__((aligned(64)));
    for (int i = 0; i < BYTES; i++)
        a[i] = (uint8_t)(i * 37);
    const __m256i order = _mm256_setr_epi8(3, 1, 2, 0, 7, 5, 6, 4, 11, 9, 10, 8, 15, 13, 14, 12, 3,
                                           1, 2, 0, 7, 5, 6, 4, 11, 9, 10, 8, 15, 13, 14, 12);
    __m256i sum = _mm256_setzero_si256();
    for (uint64_t round = 0; round < iterations; round++) {
        for (int i = 0; i < BYTES; i += 32) {
            __m256i v = _mm256_shuffle_epi8(
                _mm256_load_si256((const __m256i *)(const void *)(a + i)), order);
            __m256i greater = _mm256_and_si256(v, _mm256_cmpgt_epi8(v, sum));
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(greater, _mm256_setzero_si256()));
            sum = _mm256_xor_si256(sum, _mm256_slli_epi32(v, 3));
        }
        a[round % BYTES]++;
    }
    bench_sink = (uint64_t)_mm256_extract_epi64(sum, 0) ^ (uint64_t)_mm256_extract_epi64(sum, 3);
}

const struct workload floating_workloads[] = {
    {"fp_nbody", fp_nbody, 5000000, NULL},
    {"fp_lu", fp_lu, 400, NULL},
    {"fp_libm", fp_libm, 12000000, NULL},
    {"fp_x87", fp_x87, 40000000, NULL},
    {"avx2_dot", avx2_dot, 4000000, missing_avx2},
    {"avx2_int", avx2_int, 600000, missing_avx2},
    {0},
};
