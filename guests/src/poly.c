// Numerical kernels over dense arrays of doubles, in the manner of PolyBench: nested loops whose innermost body is a few
// instructions. Each is run TURNS times on data made once from a seed, and prints a checksum of what it has computed.
// usage: poly NAME|all [TURNS]
#include "guest.h"
#include <math.h>

#define N 120
#define LINE 4000
static double a[N][N], b[N][N], c[N][N], x[LINE], y[LINE], z[LINE];

static void make_data(void) {
  uint64_t seed = 2025;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      a[i][j] = (double)(next_random(&seed) % 1000) / 999;
      b[i][j] = (double)(next_random(&seed) % 1000) / 999;
      c[i][j] = 0;
    }
  for (int i = 0; i < LINE; i++) {
    x[i] = (double)(next_random(&seed) % 1000) / 999;
    y[i] = (double)(next_random(&seed) % 1000) / 999;
    z[i] = 0;
  }
}

// Two products of a matrix and a vector: z = A' (A x).
static void atax(void) {
  for (int i = 0; i < N; i++) z[i] = 0;
  for (int i = 0; i < N; i++) {
    double sum = 0;
    for (int j = 0; j < N; j++) sum += a[i][j] * x[j];
    for (int j = 0; j < N; j++) z[j] += a[i][j] * sum;
  }
}

// Products from the left and from the right in one pass.
static void bicg(void) {
  for (int i = 0; i < N; i++) {
    double sum = 0;
    for (int j = 0; j < N; j++) {
      z[j] = z[j] * 0.5 + y[i] * a[i][j];
      sum += a[i][j] * x[j];
    }
    z[N + i] = sum;
  }
}

// Sum of outer products, in the order that walks rows.
static void syrk(void) {
  for (int i = 0; i < N; i++) {
    for (int j = 0; j <= i; j++) c[i][j] *= 0.25;
    for (int k = 0; k < N; k++)
      for (int j = 0; j <= i; j++) c[i][j] += 0.75 * a[i][k] * a[j][k];
  }
}

// Product with a triangular matrix: the innermost loop's length changes all the time.
static void trmm(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double sum = b[i][j];
      for (int k = i + 1; k < N; k++) sum += a[k][i] * b[k][j];
      c[i][j] = 0.5 * sum;
    }
}

// LU decomposition in place, of a fresh copy with a heavy diagonal.
static void lu(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) c[i][j] = a[i][j] + (i == j ? N : 0);
  for (int i = 0; i < N; i++) {
    for (int j = 0; j < i; j++) {
      for (int k = 0; k < j; k++) c[i][j] -= c[i][k] * c[k][j];
      c[i][j] /= c[j][j];
    }
    for (int j = i; j < N; j++)
      for (int k = 0; k < i; k++) c[i][j] -= c[i][k] * c[k][j];
  }
}

// All shortest paths: a minimum in the innermost loop.
static void floyd(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) c[i][j] = 1 + 100 * a[i][j];
  for (int k = 0; k < N; k++)
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++) {
        double by = c[i][k] + c[k][j];
        if (by < c[i][j]) c[i][j] = by;
      }
}

// Three-point stencil over a line, back and forth.
static void jacobi(void) {
  for (int turn = 0; turn < 50; turn++) {
    for (int i = 1; i < LINE - 1; i++) z[i] = 0.33333 * (x[i - 1] + x[i] + x[i + 1]);
    for (int i = 1; i < LINE - 1; i++) x[i] = 0.33333 * (z[i - 1] + z[i] + z[i + 1]);
  }
}

// Nine points in place: each result is needed by the next.
static void seidel(void) {
  for (int turn = 0; turn < 5; turn++)
    for (int i = 1; i < N - 1; i++)
      for (int j = 1; j < N - 1; j++)
        b[i][j] = (b[i - 1][j - 1] + b[i - 1][j] + b[i - 1][j + 1] + b[i][j - 1] + b[i][j] + b[i][j + 1] + b[i + 1][j - 1] +
                   b[i + 1][j] + b[i + 1][j + 1]) / 9;
}

// Mean, deviation and correlation of columns.
static void correlation(void) {
  for (int j = 0; j < N; j++) {
    double mean = 0, spread = 0;
    for (int i = 0; i < N; i++) mean += a[i][j];
    mean /= N;
    for (int i = 0; i < N; i++) spread += (a[i][j] - mean) * (a[i][j] - mean);
    spread = sqrt(spread / N);
    for (int i = 0; i < N; i++) b[i][j] = (a[i][j] - mean) / (sqrt(N) * spread);
  }
  for (int i = 0; i < N; i++)
    for (int j = i; j < N; j++) {
      double sum = 0;
      for (int k = 0; k < N; k++) sum += b[k][i] * b[k][j];
      c[i][j] = c[j][i] = sum;
    }
}

// Levinson's recursion for a Toeplitz system: short loops over a growing vector.
static void durbin(void) {
  double alpha = -x[0] * 0.1, beta = 1;
  y[0] = alpha;
  for (int k = 1; k < 400; k++) {
    double sum = 0;
    beta *= 1 - alpha * alpha;
    for (int i = 0; i < k; i++) sum += x[k - i - 1] * 0.001 * y[i];
    alpha = -(x[k] * 0.001 + sum) / beta;
    for (int i = 0; i < k; i++) z[i] = y[i] + alpha * y[k - i - 1];
    for (int i = 0; i < k; i++) y[i] = z[i];
    y[k] = alpha;
  }
}

static const struct { const char *name; void (*run)(void); } KERNELS[] = {
  {"atax", atax}, {"bicg", bicg}, {"syrk", syrk}, {"trmm", trmm}, {"lu", lu}, {"floyd", floyd}, {"jacobi", jacobi},
  {"seidel", seidel}, {"correlation", correlation}, {"durbin", durbin},
};

int main(int argc, char **argv) {
  uint64_t turns = arg_number(argc, argv, 2, 1);
  int found = 0;
  for (size_t k = 0; k < sizeof KERNELS / sizeof KERNELS[0]; k++) {
    if (argc > 1 && strcmp(argv[1], "all") && strcmp(argv[1], KERNELS[k].name)) continue;
    make_data();
    for (uint64_t turn = 0; turn < turns; turn++) KERNELS[k].run();
    uint64_t hash = fnv(fnv(fnv(FNV_START, b, sizeof b), c, sizeof c), y, sizeof y);
    printf("%s %016llx\n", KERNELS[k].name, (unsigned long long)fnv(fnv(hash, x, sizeof x), z, sizeof z));
    found = 1;
  }
  if (!found) fail("no such kernel");
  return 0;
}
