// Loops to measure on, one kernel by name, from one to some dozens of instructions an innermost turn. Each works on data made
// from a seed and prints a checksum. Built twice: plain, and with 128-bit SIMD (kernels_simd), with the same results.
// usage: kernels NAME|all [TURNS] [REPEAT]: data are made anew every turn, and each is worked on REPEAT times.
#include "guest.h"
#include <math.h>

#define N 128
static double a[N][N], b[N][N], c[N][N];
static uint32_t words[1 << 16], order[1 << 16];
static uint8_t bytes[1 << 18];
static uint64_t seed;

static void make_data(void) {
  seed = 2024;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      a[i][j] = (double)(next_random(&seed) % 1000) / 999;
      b[i][j] = (double)(next_random(&seed) % 1000) / 999;
      c[i][j] = 0;
    }
  for (int i = 0; i < 1 << 16; i++) words[i] = (uint32_t)next_random(&seed);
  for (int i = 0; i < 1 << 18; i++) bytes[i] = (uint8_t)(next_random(&seed) >> 30 & 63);
}

// One cycle through all of `order`, so that a walk visits every element.
static void make_cycle(void) {
  for (uint32_t i = 0; i < 1 << 16; i++) order[i] = i;
  for (uint32_t i = (1 << 16) - 1; i > 0; i--) {
    uint32_t j = next_random(&seed) % i, swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
}

static uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  return bits;
}

static uint64_t hash_matrix(void) {
  uint64_t hash = FNV_START;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) hash = (hash ^ bits_of(c[i][j])) * 0x100000001b3u;
  return hash;
}

// Matrix product: three nested loops, the innermost a multiply and an add to memory.
static uint64_t gemm(void) {
  for (int i = 0; i < N; i++)
    for (int k = 0; k < N; k++)
      for (int j = 0; j < N; j++) c[i][j] += a[i][k] * b[k][j];
  return hash_matrix();
}

// Five-point stencil, twenty sweeps between two arrays.
static uint64_t stencil(void) {
  memcpy(c, a, sizeof c);
  for (int sweep = 0; sweep < 20; sweep++) {
    for (int i = 1; i < N - 1; i++)
      for (int j = 1; j < N - 1; j++) b[i][j] = 0.2 * (c[i][j] + c[i][j - 1] + c[i][j + 1] + c[i - 1][j] + c[i + 1][j]);
    memcpy(c, b, sizeof c);
  }
  return hash_matrix();
}

// Cholesky decomposition of a positive definite matrix: triangular loops with divisions and square roots.
static uint64_t cholesky(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) c[i][j] = a[i][j] * 0.5 + a[j][i] * 0.5 + (i == j ? 2.0 * N : 0);
  for (int i = 0; i < N; i++) {
    for (int j = 0; j < i; j++) {
      for (int k = 0; k < j; k++) c[i][j] -= c[i][k] * c[j][k];
      c[i][j] /= c[j][j];
    }
    for (int k = 0; k < i; k++) c[i][i] -= c[i][k] * c[i][k];
    c[i][i] = sqrt(c[i][i]);
  }
  return hash_matrix();
}

// Mandelbrot: a loop of unpredictable length, all in registers.
static uint64_t mandelbrot(void) {
  uint64_t total = 0;
  for (int py = 0; py < 96; py++)
    for (int px = 0; px < 96; px++) {
      double x0 = px / 32.0 - 2.2, y0 = py / 38.0 - 1.26, x = 0, y = 0;
      int turn = 0;
      while (x * x + y * y <= 4 && turn < 300) {
        double next = x * x - y * y + x0;
        y = 2 * x * y + y0;
        x = next;
        turn++;
      }
      total = total * 31 + turn;
    }
  return total;
}

// Sum of words: the smallest loop there is.
static uint64_t sum(void) {
  uint32_t total = 0;
  for (int turn = 0; turn < 32; turn++)
    for (int i = 0; i < 1 << 16; i++) total += words[i] ^ turn;
  return total;
}

// Length of a string by a loop of four instructions; the compiler is kept from calling strlen.
static uint64_t scan(void) {
  uint64_t total = 0;
  for (int turn = 0; turn < 16; turn++) {
    const volatile uint8_t *at = bytes;
    const volatile uint8_t *end = bytes + sizeof bytes;
    while (at < end && *at < 64) at++;
    total += (uint64_t)(at - bytes);
  }
  return total;
}

// CRC-32 by table, a byte a turn: each turn depends on the one before.
static uint64_t crc32(void) {
  static uint32_t table[256];
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t r = i;
    for (int k = 0; k < 8; k++) r = r & 1 ? r >> 1 ^ 0xedb88320u : r >> 1;
    table[i] = r;
  }
  uint32_t crc = ~0u;
  for (int turn = 0; turn < 4; turn++)
    for (size_t i = 0; i < sizeof bytes; i++) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
  return ~crc;
}

// A walk in memory where each load names the next.
static uint64_t chase(void) {
  make_cycle();
  uint32_t at = 0, mix = 0;
  for (int i = 0; i < 1 << 20; i++) {
    at = order[at];
    mix = mix * 31 + at;
  }
  return mix;
}

// Quicksort, own recursion, then a check by adding up positions.
static void quicksort(uint32_t *from, int count) {
  while (count > 12) {
    uint32_t pivot = from[count / 2];
    int i = 0, j = count - 1;
    for (;; i++, j--) {
      while (from[i] < pivot) i++;
      while (from[j] > pivot) j--;
      if (i >= j) break;
      uint32_t swap = from[i];
      from[i] = from[j];
      from[j] = swap;
    }
    quicksort(from + j + 1, count - j - 1);
    count = j + 1;
  }
  for (int i = 1; i < count; i++) {
    uint32_t v = from[i];
    int j = i;
    for (; j > 0 && from[j - 1] > v; j--) from[j] = from[j - 1];
    from[j] = v;
  }
}

static uint64_t sort(void) {
  memcpy(order, words, sizeof order);
  quicksort(order, 1 << 16);
  uint64_t hash = FNV_START;
  for (int i = 0; i < 1 << 16; i++) {
    if (i && order[i - 1] > order[i]) fail("not sorted");
    hash = (hash ^ order[i]) * 0x100000001b3u;
  }
  return hash;
}

// Sieve of Eratosthenes over bytes: strided stores.
static uint64_t sieve(void) {
  static uint8_t composite[1 << 20];
  memset(composite, 0, sizeof composite);
  uint64_t count = 0;
  for (uint32_t i = 2; i < sizeof composite; i++) {
    if (composite[i]) continue;
    count++;
    for (uint64_t j = (uint64_t)i * i; j < sizeof composite; j += i) composite[j] = 1;
  }
  return count;
}

// Recursion without memory: calls are all there is.
__attribute__((noinline)) static uint32_t fibonacci(uint32_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static uint64_t fib(void) { return fibonacci(27); }

// Virtual calls: shapes behind function pointers, in an order that cannot be foreseen.
typedef struct Shape { double (*area)(const struct Shape *); double x, y; } Shape;
static double square(const Shape *s) { return s->x * s->x; }
static double rectangle(const Shape *s) { return s->x * s->y; }
static double ellipse(const Shape *s) { return 3.14159265358979 * s->x * s->y; }
static double triangle(const Shape *s) { return 0.5 * s->x * s->y; }
static uint64_t shapes(void) {
  static Shape all[1 << 12];
  double (*const kinds[])(const Shape *) = {square, rectangle, ellipse, triangle};
  double total = 0;
  for (int i = 0; i < 1 << 12; i++) all[i] = (Shape){kinds[words[i] >> 13 & 3], words[i] & 63, words[i] >> 8 & 63};
  for (int turn = 0; turn < 64; turn++)
    for (int i = 0; i < 1 << 12; i++) total += all[i].area(&all[i]);
  return bits_of(total);
}

// Edit distance of two byte strings: dynamic programming with two branches a turn.
static uint64_t distance(void) {
  static uint16_t row[2001];
  for (int j = 0; j <= 2000; j++) row[j] = (uint16_t)j;
  for (int i = 1; i <= 1000; i++) {
    uint16_t diagonal = row[0];
    row[0] = (uint16_t)i;
    for (int j = 1; j <= 2000; j++) {
      uint16_t above = row[j], best = diagonal + ((bytes[i] & 7) != (bytes[50000 + j] & 7));
      if (above + 1 < best) best = above + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = best;
      diagonal = above;
    }
  }
  return row[2000];
}

// Single precision over arrays, as pixels are blended: what SIMD is good at, without any order of additions to keep.
static uint64_t blend(void) {
  static float front[1 << 14], back[1 << 14], out[1 << 14];
  for (int i = 0; i < 1 << 14; i++) {
    front[i] = (float)(words[i] & 255);
    back[i] = (float)(words[i] >> 8 & 255);
    out[i] = 0;
  }
  for (int turn = 0; turn < 100; turn++)
    for (int i = 0; i < 1 << 14; i++) out[i] = out[i] * 0.5f + front[i] * 0.75f + back[i] * 0.25f;
  return fnv(FNV_START, out, sizeof out);
}

static const struct { const char *name; uint64_t (*run)(void); } KERNELS[] = {
  {"gemm", gemm}, {"stencil", stencil}, {"cholesky", cholesky}, {"mandelbrot", mandelbrot}, {"sum", sum}, {"scan", scan},
  {"crc32", crc32}, {"chase", chase}, {"sort", sort}, {"sieve", sieve}, {"fib", fib}, {"shapes", shapes},
  {"distance", distance}, {"blend", blend},
};

int main(int argc, char **argv) {
  uint64_t turns = arg_number(argc, argv, 2, 1), repeat = arg_number(argc, argv, 3, 1);
  int found = 0;
  for (size_t k = 0; k < sizeof KERNELS / sizeof KERNELS[0]; k++) {
    if (argc > 1 && strcmp(argv[1], "all") && strcmp(argv[1], KERNELS[k].name)) continue;
    uint64_t hash = 0;
    for (uint64_t turn = 0; turn < turns; turn++) {
      make_data();
      for (uint64_t i = 0; i < repeat; i++) hash = hash * 31 + KERNELS[k].run();
    }
    printf("%s %016llx\n", KERNELS[k].name, (unsigned long long)hash);
    found = 1;
  }
  if (!found) fail("no such kernel");
  return 0;
}
