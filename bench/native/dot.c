// Native yardstick of bench/kernels.mjs: a matrix times n tokens as ggml's AVX2 code goes about it, one dot product for each row and token, weights in
// the file's blocks, activations quantised beside them. 256-bit vectors, F16C and FMA, nothing wider: the widest instructions that the WebAssembly
// of an engine becomes are half as wide. Written for this bench; only the order of the work is ggml's.
//
//   dot TYPE ROWS K N SETBYTES MILLISECONDS FILE
//
// FILE holds the weights of SETBYTES bytes, then f32 x[K]. Prints {"seconds": of the quickest pass over all of them, "out": [the first rows]}.

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { float d, s; int8_t q[32]; } Act32;
typedef struct { float d; int16_t sums[16]; int8_t q[256]; } Act256;

static inline float half(const uint8_t *p) { uint16_t h; memcpy(&h, p, 2); return _cvtsh_ss(h); }
static inline __m256i load256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline __m256i load128x2(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }

static inline float sum8(__m256 v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

// ── Blocks of 32 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Eight sums of four neighbouring products: w unsigned. */
static inline __m256i quads_u(__m256i w, __m256i y) { return _mm256_madd_epi16(_mm256_maddubs_epi16(w, y), _mm256_set1_epi16(1)); }
/** The same, w signed. */
static inline __m256i quads_s(__m256i w, __m256i y) { return quads_u(_mm256_sign_epi8(w, w), _mm256_sign_epi8(y, w)); }

static inline __m256i nibbles(const uint8_t *p) {
  const __m128i v = _mm_loadu_si128((const __m128i *)p);
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}
/** 32 bits as bytes of 0 or 16. */
static inline __m256i fifth(const uint8_t *p) {
  uint32_t bits;
  memcpy(&bits, p, 4);
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0));
  const __m256i bit = _mm256_set1_epi64x(0x8040201008040201);
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8(16));
}

enum { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q8_0 = 8, Q4_K = 12, Q5_K = 13, Q6_K = 14, F32 = 0, F16 = 1, BF16 = 30 };

#define BLOCKS(NAME, BYTES, WEIGHTS, QUADS, MINIMUM)                                                                            \
  static float NAME(const uint8_t *w, int k, const void *act) {                                                                 \
    const Act32 *y = act;                                                                                                       \
    __m256 sum = _mm256_setzero_ps();                                                                                           \
    float minima = 0;                                                                                                           \
    for (int b = 0; b < k / 32; b++, w += BYTES) {                                                                              \
      const __m256i s = QUADS(WEIGHTS, load256(y[b].q));                                                                        \
      sum = _mm256_fmadd_ps(_mm256_set1_ps(half(w) * y[b].d), _mm256_cvtepi32_ps(s), sum);                                      \
      if (MINIMUM) minima += half(w + 2) * y[b].s;                                                                              \
    }                                                                                                                           \
    return sum8(sum) + minima;                                                                                                  \
  }
BLOCKS(dot_q4_0, 18, _mm256_sub_epi8(nibbles(w + 2), _mm256_set1_epi8(8)), quads_s, 0)
BLOCKS(dot_q4_1, 20, nibbles(w + 4), quads_u, 1)
BLOCKS(dot_q5_0, 22, _mm256_sub_epi8(_mm256_or_si256(nibbles(w + 6), fifth(w + 2)), _mm256_set1_epi8(16)), quads_s, 0)
BLOCKS(dot_q8_0, 34, load256(w + 2), quads_s, 0)

// ── Super-blocks of 256 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Eight scales and eight minima of six bits in twelve bytes. */
static inline void six_bits(const uint8_t *p, uint8_t scale[8], uint8_t minimum[8]) {
  for (int j = 0; j < 4; j++) {
    scale[j] = p[j] & 63;
    minimum[j] = p[j + 4] & 63;
    scale[j + 4] = (p[j + 8] & 15) | (p[j] >> 6) << 4;
    minimum[j + 4] = p[j + 8] >> 4 | (p[j + 4] >> 6) << 4;
  }
}

/** Q4_K; with `high` Q5_K. */
static inline float dot_45(const uint8_t *w, int k, const Act256 *y, int high) {
  const __m256i low4 = _mm256_set1_epi8(15);
  __m256 sum = _mm256_setzero_ps();
  float less = 0;
  for (int b = 0; b < k / 256; b++, w += high ? 176 : 144) {
    uint8_t scale[8], minimum[8];
    six_bits(w + 4, scale, minimum);
    int m = 0;
    for (int j = 0; j < 8; j++) m += minimum[j] * (y[b].sums[2 * j] + y[b].sums[2 * j + 1]);
    less -= half(w + 2) * y[b].d * m;
    const uint8_t *q = w + (high ? 48 : 16);
    const __m256i top = high ? load256(w + 16) : _mm256_setzero_si256();
    __m256i s = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++, q += 32) {
      const __m256i v = load256(q);
      __m256i w0 = _mm256_and_si256(v, low4);
      __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(v, 4), low4);
      if (high) {
        const __m256i one = _mm256_set1_epi8(1);
        w0 = _mm256_or_si256(w0, _mm256_slli_epi16(_mm256_and_si256(_mm256_srl_epi16(top, _mm_cvtsi32_si128(2 * j)), one), 4));
        w1 = _mm256_or_si256(w1, _mm256_slli_epi16(_mm256_and_si256(_mm256_srl_epi16(top, _mm_cvtsi32_si128(2 * j + 1)), one), 4));
      }
      const __m256i p0 = _mm256_maddubs_epi16(w0, load256(y[b].q + 64 * j));
      const __m256i p1 = _mm256_maddubs_epi16(w1, load256(y[b].q + 64 * j + 32));
      s = _mm256_add_epi32(s, _mm256_add_epi32(_mm256_madd_epi16(p0, _mm256_set1_epi16(scale[2 * j])), _mm256_madd_epi16(p1, _mm256_set1_epi16(scale[2 * j + 1]))));
    }
    sum = _mm256_fmadd_ps(_mm256_set1_ps(half(w) * y[b].d), _mm256_cvtepi32_ps(s), sum);
  }
  return sum8(sum) + less;
}
static float dot_q4_k(const uint8_t *w, int k, const void *y) { return dot_45(w, k, y, 0); }
static float dot_q5_k(const uint8_t *w, int k, const void *y) { return dot_45(w, k, y, 1); }

static float dot_q6_k(const uint8_t *w, int k, const void *act) {
  const Act256 *y = act;
  const __m256i low4 = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
  __m256 sum = _mm256_setzero_ps();
  for (int b = 0; b < k / 256; b++, w += 210) {
    const __m256i scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 192)));
    __m256i s = _mm256_slli_epi32(_mm256_madd_epi16(load256(y[b].sums), scales), 5); // the weights are less by 32
    s = _mm256_sub_epi32(_mm256_setzero_si256(), s);
    for (int h = 0; h < 2; h++) {
      const __m256i l0 = load256(w + 64 * h), l1 = load256(w + 64 * h + 32), t = load256(w + 128 + 32 * h);
      const __m256i v[4] = {
        _mm256_or_si256(_mm256_and_si256(l0, low4), _mm256_and_si256(_mm256_slli_epi16(t, 4), two)),
        _mm256_or_si256(_mm256_and_si256(l1, low4), _mm256_and_si256(_mm256_slli_epi16(t, 2), two)),
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l0, 4), low4), _mm256_and_si256(t, two)),
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l1, 4), low4), _mm256_and_si256(_mm256_srli_epi16(t, 2), two)),
      };
      for (int j = 0; j < 4; j++) {
        const int8_t *c = (const int8_t *)w + 192 + 8 * h + 2 * j;
        const __m256i scale = _mm256_set_m128i(_mm_set1_epi16(c[1]), _mm_set1_epi16(c[0]));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(v[j], load256(y[b].q + 128 * h + 32 * j)), scale));
      }
    }
    sum = _mm256_fmadd_ps(_mm256_set1_ps(half(w + 208) * y[b].d), _mm256_cvtepi32_ps(s), sum);
  }
  return sum8(sum);
}

// ── Floats ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

static inline __m256 eight_f32(const uint8_t *w, int i) { return _mm256_loadu_ps((const float *)w + i); }
static inline __m256 eight_f16(const uint8_t *w, int i) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(w + 2 * i))); }
static inline __m256 eight_bf16(const uint8_t *w, int i) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(w + 2 * i))), 16));
}
#define FLOATS(NAME, EIGHT)                                                                                                     \
  static float NAME(const uint8_t *w, int k, const void *act) {                                                                 \
    const float *y = act;                                                                                                       \
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;                                                                 \
    for (int i = 0; i + 32 <= k; i += 32) {                                                                                     \
      s0 = _mm256_fmadd_ps(EIGHT(w, i), _mm256_loadu_ps(y + i), s0);                                                            \
      s1 = _mm256_fmadd_ps(EIGHT(w, i + 8), _mm256_loadu_ps(y + i + 8), s1);                                                    \
      s2 = _mm256_fmadd_ps(EIGHT(w, i + 16), _mm256_loadu_ps(y + i + 16), s2);                                                  \
      s3 = _mm256_fmadd_ps(EIGHT(w, i + 24), _mm256_loadu_ps(y + i + 24), s3);                                                  \
    }                                                                                                                           \
    return sum8(_mm256_add_ps(_mm256_add_ps(s0, s2), _mm256_add_ps(s1, s3)));                                                   \
  }
FLOATS(dot_f32, eight_f32)
FLOATS(dot_f16, eight_f16)
FLOATS(dot_bf16, eight_bf16)

// ── The bench ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

typedef struct { int type, values, bytes; float (*dot)(const uint8_t *, int, const void *); } Type;
static const Type types[] = {
  { F32, 1, 4, dot_f32 },       { F16, 1, 2, dot_f16 },       { BF16, 1, 2, dot_bf16 },     { Q4_0, 32, 18, dot_q4_0 },   { Q4_1, 32, 20, dot_q4_1 },
  { Q5_0, 32, 22, dot_q5_0 },   { Q8_0, 32, 34, dot_q8_0 },   { Q4_K, 256, 144, dot_q4_k }, { Q5_K, 256, 176, dot_q5_k }, { Q6_K, 256, 210, dot_q6_k },
};

static float largest(const float *x, int n) {
  float m = 0;
  for (int i = 0; i < n; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
  return m;
}

/** x as the type's products take it; the size of it. */
static size_t quantize(const Type *type, const float *x, int k, void *to) {
  if (type->values == 1) {
    memcpy(to, x, sizeof(float) * k);
    return sizeof(float) * k;
  }
  if (type->values == 32) {
    Act32 *act = to;
    for (int b = 0; b < k / 32; b++, act++) {
      const float d = largest(x + 32 * b, 32) / 127;
      int sum = 0;
      for (int i = 0; i < 32; i++) sum += act->q[i] = (int8_t)lrintf(x[32 * b + i] / d);
      act->d = d;
      act->s = d * sum;
    }
    return sizeof(Act32) * (k / 32);
  }
  Act256 *act = to;
  for (int b = 0; b < k / 256; b++, act++) {
    act->d = largest(x + 256 * b, 256) / 127;
    memset(act->sums, 0, sizeof act->sums);
    for (int i = 0; i < 256; i++) act->sums[i / 16] += act->q[i] = (int8_t)lrintf(x[256 * b + i] / act->d);
  }
  return sizeof(Act256) * (k / 256);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  const Type *type = types;
  while (type->type != atoi(argv[1])) if (++type == types + sizeof types / sizeof *types) return 2;
  const int rows = atoi(argv[2]), k = atoi(argv[3]), n = atoi(argv[4]), set = atoi(argv[5]);
  const double end = now() + atof(argv[6]) / 1000;
  const size_t row = (size_t)k / type->values * type->bytes;
  uint8_t *w = aligned_alloc(64, ((size_t)set + 127) / 64 * 64);
  float *x = malloc(sizeof(float) * k), *out = malloc(sizeof(float) * rows * n);
  FILE *f = fopen(argv[7], "rb");
  if (!w || !x || !out || !f || fread(w, 1, set, f) != (size_t)set || fread(x, sizeof(float), k, f) != (size_t)k) return 1;
  uint8_t *act = malloc(8 * (size_t)k * n);
  const size_t step = quantize(type, x, k, act);
  for (int t = 1; t < n; t++) memcpy(act + t * step, act, step);
  double best = INFINITY;
  do {
    const double start = now();
    for (const uint8_t *m = w; m + rows * row <= w + set; m += rows * row)
      for (int r = 0; r < rows; r++)
        for (int t = 0; t < n; t++) out[t * rows + r] = type->dot(m + r * row, k, act + t * step);
    const double seconds = now() - start;
    if (seconds < best) best = seconds;
  } while (now() < end);
  printf("{\"seconds\":%.9g,\"out\":[", best);
  for (int r = 0; r < rows; r++) printf(r ? ",%.9g" : "%.9g", out[r]);
  puts("]}");
  return 0;
}
