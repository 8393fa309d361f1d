// Arithmetic: floating point in matrices, transforms and pictures, integers in boards, sieves and sequences.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: numbers NAME|all [TURNS]
#include "prose.h"
#include <math.h>

static double random_unit(void) { return (double)(next_random(&seed) >> 11) / 9007199254740992.0; }

// Bodies with softened gravity, by leapfrog.
static void orbits(void) {
  enum { N = 24 };
  static struct { double x[3], v[3], m; } b[N];
  for (int i = 0; i < N; i++) {
    for (int d = 0; d < 3; d++) b[i].x[d] = random_unit() * 10 - 5, b[i].v[d] = random_unit() - 0.5;
    b[i].m = random_unit() + 0.1;
  }
  for (int step = 0; step < 40; step++) {
    for (int i = 0; i < N; i++) {
      double a[3] = {0, 0, 0};
      for (int j = 0; j < N; j++) {
        if (i == j) continue;
        double r[3], square = 0.01;
        for (int d = 0; d < 3; d++) r[d] = b[j].x[d] - b[i].x[d], square += r[d] * r[d];
        double pull = b[j].m / (square * sqrt(square));
        for (int d = 0; d < 3; d++) a[d] += pull * r[d];
      }
      for (int d = 0; d < 3; d++) b[i].v[d] += 0.01 * a[d];
    }
    for (int i = 0; i < N; i++) for (int d = 0; d < 3; d++) b[i].x[d] += 0.01 * b[i].v[d];
  }
  for (int i = 0; i < N; i++) mix((uint64_t)(int64_t)(b[i].x[0] * 1e6));
}

// Linear equations: elimination with row pivots through row pointers, then substitution.
static void gauss(void) {
  enum { N = 80 };
  static double store[N][N + 1], x[N];
  double *row[N];
  for (int i = 0; i < N; i++) {
    row[i] = store[i];
    for (int j = 0; j <= N; j++) store[i][j] = random_unit() - 0.5;
  }
  for (int k = 0; k < N; k++) {
    int best = k;
    for (int i = k + 1; i < N; i++) if (fabs(row[i][k]) > fabs(row[best][k])) best = i;
    double *kept = row[k];
    row[k] = row[best], row[best] = kept;
    for (int i = k + 1; i < N; i++) {
      double factor = row[i][k] / row[k][k];
      for (int j = k; j <= N; j++) row[i][j] -= factor * row[k][j];
    }
  }
  for (int i = N - 1; i >= 0; i--) {
    double sum = row[i][N];
    for (int j = i + 1; j < N; j++) sum -= row[i][j] * x[j];
    x[i] = sum / row[i][i];
  }
  for (int i = 0; i < N; i++) {
    uint64_t bits;
    memcpy(&bits, &x[i], 8);
    mix(bits);
  }
}

// A 3x3 filter over bytes, clamped; then edges by Sobel.
static void filter(void) {
  enum { W = 128, H = 128 };
  static uint8_t smooth[H][W], edges[H][W];
  const uint8_t(*in)[W] = (const uint8_t(*)[W])noise;
  static const int kernel[3][3] = {{-1, 2, -1}, {2, 12, 2}, {-1, 2, -1}};
  for (int y = 1; y < H - 1; y++) {
    for (int x = 1; x < W - 1; x++) {
      int sum = 0;
      for (int dy = -1; dy <= 1; dy++) for (int dx = -1; dx <= 1; dx++) sum += kernel[dy + 1][dx + 1] * in[y + dy][x + dx];
      sum >>= 4;
      smooth[y][x] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
  }
  uint32_t total = 0;
  for (int y = 2; y < H - 2; y++) {
    for (int x = 2; x < W - 2; x++) {
      int gx = smooth[y - 1][x + 1] + 2 * smooth[y][x + 1] + smooth[y + 1][x + 1] - smooth[y - 1][x - 1] - 2 * smooth[y][x - 1] - smooth[y + 1][x - 1];
      int gy = smooth[y + 1][x - 1] + 2 * smooth[y + 1][x] + smooth[y + 1][x + 1] - smooth[y - 1][x - 1] - 2 * smooth[y - 1][x] - smooth[y - 1][x + 1];
      int g = abs(gx) + abs(gy);
      edges[y][x] = (uint8_t)(g > 255 ? 255 : g);
      total += edges[y][x];
    }
  }
  noise[(total * 7) % TEXT]++;
  mix(total);
}

// A fast Fourier transform of floats.
static void fft(void) {
  enum { N = 4096, BITS = 12 };
  static float re[N], im[N], cosine[N / 2], sine[N / 2];
  if (cosine[0] == 0) {
    double c = 1, s = 0, dc = 0.99999882345170188, ds = 0.0015339801862847655;
    for (int i = 0; i < N / 2; i++) {
      cosine[i] = (float)c, sine[i] = (float)s;
      double t = c * dc - s * ds;
      s = s * dc + c * ds, c = t;
    }
  }
  for (int i = 0; i < N; i++) {
    int r = 0;
    for (int b = 0; b < BITS; b++) r |= (i >> b & 1) << (BITS - 1 - b);
    re[r] = (float)(noise[(i * 3) % TEXT] - 128), im[r] = 0;
  }
  for (int half = 1, step = N / 2; half < N; half *= 2, step /= 2) {
    for (int i = 0; i < N; i += 2 * half) {
      for (int j = 0; j < half; j++) {
        float c = cosine[j * step], s = -sine[j * step];
        float tr = re[i + j + half] * c - im[i + j + half] * s, ti = re[i + j + half] * s + im[i + j + half] * c;
        re[i + j + half] = re[i + j] - tr, im[i + j + half] = im[i + j] - ti;
        re[i + j] += tr, im[i + j] += ti;
      }
    }
  }
  int peak = 0;
  for (int i = 1; i < N / 2; i++) if (re[i] * re[i] + im[i] * im[i] > re[peak] * re[peak] + im[peak] * im[peak]) peak = i;
  noise[random_below(TEXT)] ^= 0x55;
  mix((uint64_t)peak), mix((uint64_t)(int64_t)re[1]);
}

// A Julia set with doubles.
static void julia(void) {
  double cr = random_unit() * 0.2 - 0.8, ci = random_unit() * 0.2 + 0.1;
  int total = 0;
  for (int y = 0; y < 32; y++) {
    for (int x = 0; x < 32; x++) {
      double zr = (x - 16) * 0.09, zi = (y - 16) * 0.09;
      int n = 0;
      for (; n < 100; n++) {
        double r2 = zr * zr, i2 = zi * zi;
        if (r2 + i2 > 4) break;
        zi = 2 * zr * zi + ci, zr = r2 - i2 + cr;
      }
      total += n;
    }
  }
  mix((uint64_t)total);
}

// A product of matrices of ints, by blocks.
static void blocked(void) {
  enum { N = 64, B = 16 };
  static int a[N][N], b[N][N], c[N][N];
  for (int i = 0; i < N; i++) for (int j = 0; j < N; j++) a[i][j] = noise[i * N + j], b[i][j] = noise[4096 + i * N + j] - 100, c[i][j] = 0;
  int spot = random_below(N);
  a[spot][5] = random_below(1000);
  for (int ii = 0; ii < N; ii += B)
    for (int kk = 0; kk < N; kk += B)
      for (int jj = 0; jj < N; jj += B)
        for (int i = ii; i < ii + B; i++)
          for (int k = kk; k < kk + B; k++) {
            int x = a[i][k];
            for (int j = jj; j < jj + B; j++) c[i][j] += x * b[k][j];
          }
  mix(fnv(FNV_START, c[random_below(N)], sizeof c[0]));
}

// Boards of 64 bits: moves of knights, and floods, counted.
static void bitboards(void) {
  const uint64_t a = 0x0101010101010101u, h = a << 7, ab = a | a << 1, gh = h | h >> 1;
  int total = 0;
  for (int game = 0; game < 600; game++) {
    uint64_t walls = next_random(&seed) & next_random(&seed), reached = (uint64_t)1 << random_below(64) & ~walls;
    for (uint64_t before = 0; before != reached;) {
      before = reached;
      reached |= (reached << 8 | reached >> 8 | (reached & ~h) << 1 | (reached & ~a) >> 1) & ~walls;
    }
    total += __builtin_popcountll(reached);
    for (uint64_t rest = reached; rest; rest &= rest - 1) {
      uint64_t from = rest & -rest;
      uint64_t moves = (from & ~h) << 17 | (from & ~a) << 15 | (from & ~a) >> 17 | (from & ~h) >> 15 | (from & ~gh) << 10 |
                       (from & ~ab) << 6 | (from & ~ab) >> 10 | (from & ~gh) >> 6;
      total += __builtin_popcountll(moves & ~walls) * (__builtin_ctzll(rest) + 1);
    }
  }
  mix((uint64_t)total);
}

// A sieve of bits, then a count of them by words.
static void bitsieve(void) {
  static uint64_t bits[512];
  memset(bits, 0xff, sizeof bits);
  for (uint32_t i = 3; i * i < 65536; i += 2)
    if (bits[i >> 7] >> (i >> 1 & 63) & 1) for (uint32_t j = i * i; j < 65536; j += 2 * i) bits[j >> 7] &= ~((uint64_t)1 << (j >> 1 & 63));
  int count = 0;
  for (int i = 0; i < 512; i++) {
    uint64_t v = bits[i];  // counted as by hand
    v = v - (v >> 1 & 0x5555555555555555u);
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    count += (int)(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
  }
  mix((uint64_t)count);
}

// Rays on spheres, with one mirror and shadows: structs of doubles by value.
struct vec { double x, y, z; };
static struct vec v_add(struct vec a, struct vec b) { return (struct vec){a.x + b.x, a.y + b.y, a.z + b.z}; }
static struct vec v_sub(struct vec a, struct vec b) { return (struct vec){a.x - b.x, a.y - b.y, a.z - b.z}; }
static struct vec v_scale(struct vec a, double k) { return (struct vec){a.x * k, a.y * k, a.z * k}; }
static double v_dot(struct vec a, struct vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static struct vec v_unit(struct vec a) { return v_scale(a, 1 / sqrt(v_dot(a, a))); }
static struct sphere { struct vec center; double radius, mirror; } spheres[8];
static const struct sphere *hit(struct vec from, struct vec along, double *distance) {
  const struct sphere *found = NULL;
  *distance = 1e30;
  for (int i = 0; i < 8; i++) {
    struct vec to = v_sub(spheres[i].center, from);
    double b = v_dot(to, along), d = b * b - v_dot(to, to) + spheres[i].radius * spheres[i].radius;
    if (d < 0) continue;
    double root = sqrt(d), t = b - root > 1e-6 ? b - root : b + root;
    if (t > 1e-6 && t < *distance) *distance = t, found = &spheres[i];
  }
  return found;
}
static double shade(struct vec from, struct vec along, int depth) {
  double distance, dark;
  const struct sphere *s = hit(from, along, &distance);
  if (!s) return 0.2 + 0.1 * along.y;
  struct vec at = v_add(from, v_scale(along, distance)), normal = v_unit(v_sub(at, s->center)), light = {0.48, 0.6, -0.64};
  double bright = v_dot(normal, light);
  if (bright < 0 || hit(at, light, &dark)) bright = 0.05;
  if (depth) bright += s->mirror * shade(at, v_sub(along, v_scale(normal, 2 * v_dot(along, normal))), depth - 1);
  return bright;
}
static void rays(void) {
  for (int i = 0; i < 8; i++)
    spheres[i] = (struct sphere){{random_unit() * 6 - 3, random_unit() * 6 - 3, random_unit() * 4 + 4}, random_unit() + 0.3, random_unit() * 0.5};
  double sum = 0;
  for (int y = 0; y < 64; y++)
    for (int x = 0; x < 64; x++) sum += shade((struct vec){0, 0, -3}, v_unit((struct vec){(x - 32) * 0.03, (y - 32) * 0.03, 1}), 2);
  mix((uint64_t)(sum * 1e6));
}

// Collatz's sequences: one long dependency with a branch that nobody can guess.
static void collatz(void) {
  int longest = 0;
  uint64_t start = next_random(&seed) >> 40;
  for (uint64_t i = start | 1; i < start + 400; i += 2) {
    int steps = 0;
    for (uint64_t n = i; n != 1; steps++) n = n & 1 ? 3 * n + 1 : n / 2;
    if (steps > longest) longest = steps;
  }
  mix((uint64_t)longest);
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"orbits", orbits}, {"gauss", gauss}, {"filter", filter}, {"fft", fft}, {"julia", julia}, {"blocked", blocked}, {"bitboards", bitboards},
  {"bitsieve", bitsieve}, {"rays", rays}, {"collatz", collatz},
};

#include "tasks.h"
