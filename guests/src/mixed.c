// Programs without floating point, in the small: recursion, virtual calls, bytes, hash tables, sorting, trees, an interpreter.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: mixed NAME|all [TURNS]
#include "guest.h"

#define COUNT (1 << 14)
#define TEXT (1 << 16)
static uint32_t words[COUNT], scratch[COUNT];
static uint8_t text[TEXT], out[TEXT * 2];
static uint64_t hash;

static void mix(uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; }

static void make_data(void) {
  uint64_t seed = 4711;
  hash = FNV_START;
  for (int i = 0; i < COUNT; i++) words[i] = (uint32_t)next_random(&seed);
  // Something like JSON: words, numbers, punctuation, now and then a character of two or three bytes.
  static const char *const parts[] = {"\"name\":", "12345", "{", "}", ",", "[", "]", "true", "\"value\"", " ", "\n", "-0.5e3", "\xc3\xa9", "\xe2\x82\xac"};
  size_t at = 0;
  while (at < TEXT - 16) {
    const char *part = parts[next_random(&seed) % (sizeof parts / sizeof parts[0])];
    for (; *part; part++) text[at++] = (uint8_t)*part;
  }
  while (at < TEXT) text[at++] = ' ';
}

// Takeuchi's function: three arguments, four calls each.
__attribute__((noinline)) static int takeuchi(int x, int y, int z) {
  return y >= x ? z : takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}
static void tak(void) { mix((uint64_t)takeuchi(18, 12, 6)); }

// Queens on bit sets: recursion with a short loop in it.
__attribute__((noinline)) static uint32_t place(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
  if (columns == all) return 1;
  uint32_t found = 0;
  for (uint32_t free = all & ~(columns | left | right); free; free &= free - 1) {
    uint32_t bit = free & -free;
    found += place(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return found;
}
static void queens(void) { mix(place((1 << 9) - 1, 0, 0, 0)); }

// Ackermann's function: calls that go deep, and little else.
__attribute__((noinline)) static uint32_t ackermann(uint32_t m, uint32_t n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}
static void acker(void) { mix(ackermann(2, 300)); }

// Two functions that call each other.
__attribute__((noinline)) static int is_odd(uint32_t n);
__attribute__((noinline)) static int is_even(uint32_t n) { return n == 0 ? 1 : !is_odd(n - 1) ^ 1; }
__attribute__((noinline)) static int is_odd(uint32_t n) { return n == 0 ? 0 : !is_even(n - 1) ^ 1; }
static void mutual(void) {
  for (uint32_t i = 0; i < 100; i++) mix((uint64_t)is_even(words[i] & 511));
}

// A small function called in a loop, which the compiler is kept from inlining: a leaf.
__attribute__((noinline)) static uint32_t scramble(uint32_t v) { return (v ^ v >> 15) * 0x2c1b3c6du; }
static void leaf(void) {
  uint32_t sum = 0;
  for (int i = 0; i < COUNT; i++) sum += scramble(words[i] + sum);
  mix(sum);
}

// Virtual calls in an order that cannot be foreseen.
typedef struct Node { uint32_t (*step)(const struct Node *, uint32_t); uint32_t value; } Node;
static uint32_t add(const Node *n, uint32_t v) { return v + n->value; }
static uint32_t flip(const Node *n, uint32_t v) { return v ^ n->value; }
static uint32_t turn(const Node *n, uint32_t v) { return v << (n->value & 31) | v >> (-n->value & 31); }
static uint32_t scale(const Node *n, uint32_t v) { return v * (n->value | 1); }
static void virtual(void) {
  static Node nodes[1024];
  uint32_t (*const kinds[])(const Node *, uint32_t) = {add, flip, turn, scale};
  for (int i = 0; i < 1024; i++) nodes[i] = (Node){kinds[words[i] >> 9 & 3], words[i]};
  uint32_t v = 1;
  for (int i = 0; i < COUNT; i++) v = nodes[i & 1023].step(&nodes[i & 1023], v);
  mix(v);
}

// UTF-8 to code points, with all its checks.
static void utf8(void) {
  uint32_t count = 0, sum = 0;
  for (size_t at = 0; at < TEXT;) {
    uint32_t c = text[at++];
    if (c >= 0x80) {
      int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
      c &= 0x3f >> more;
      for (; more && at < TEXT && (text[at] & 0xc0) == 0x80; more--) c = c << 6 | (text[at++] & 0x3f);
    }
    count++;
    sum = sum * 31 + c;
  }
  mix((uint64_t)count << 32 | sum);
}

// Base64 of bytes: table, shifts, stores.
static void base64(void) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t to = 0;
  for (size_t at = 0; at + 3 <= TEXT; at += 3) {
    uint32_t v = (uint32_t)text[at] << 16 | (uint32_t)text[at + 1] << 8 | text[at + 2];
    for (int shift = 18; shift >= 0; shift -= 6) out[to++] = (uint8_t)digits[v >> shift & 63];
  }
  mix(out[to / 2]);
}

// A tokenizer: a state for each kind of character, loops that end on a condition.
static void tokens(void) {
  uint32_t counts[6] = {0};
  size_t at = 0;
  while (at < TEXT) {
    uint8_t c = text[at];
    if (c == ' ' || c == '\n') {
      while (at < TEXT && (text[at] == ' ' || text[at] == '\n')) at++;
      counts[0]++;
    } else if (c == '"') {
      for (at++; at < TEXT && text[at] != '"'; at++) {}
      at++;
      counts[1]++;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      while (at < TEXT && (text[at] == '-' || text[at] == '.' || text[at] == 'e' || (text[at] >= '0' && text[at] <= '9'))) at++;
      counts[2]++;
    } else if (c >= 'a' && c <= 'z') {
      while (at < TEXT && text[at] >= 'a' && text[at] <= 'z') at++;
      counts[3]++;
    } else {
      at++;
      counts[c >= 0x80 ? 4 : 5]++;
    }
  }
  for (int i = 0; i < 6; i++) mix(counts[i]);
}

// How often each byte is there: a load and a store that depend on data.
static void histogram(void) {
  static uint32_t counts[256];
  for (int i = 0; i < TEXT; i++) counts[text[i]]++;
  mix(counts['"']);
}

// First place of a pattern, the naive way: two nested loops, the inner one short.
static void find(void) {
  static const char pattern[] = "true,\"value\"[12345";
  uint32_t found = 0;
  for (size_t at = 0; at + sizeof pattern <= TEXT; at++) {
    size_t k = 0;
    while (k < sizeof pattern - 1 && text[at + k] == (uint8_t)pattern[k]) k++;
    found += k == sizeof pattern - 1;
  }
  mix(found);
}

// A hash table with open addressing: half inserts, half lookups.
static void table(void) {
  static uint32_t keys[COUNT * 2], values[COUNT * 2];
  memset(keys, 0, sizeof keys);
  uint32_t sum = 0;
  for (int i = 0; i < COUNT * 2; i++) {
    uint32_t key = (words[i % COUNT] ^ (uint32_t)(i >> 15)) | 1, at = key * 0x9e3779b1u >> 17;
    while (keys[at] && keys[at] != key) at = (at + 1) & (COUNT * 2 - 1);
    if (keys[at]) {
      sum += values[at];
    } else {
      keys[at] = key;
      values[at] = (uint32_t)i;
    }
  }
  mix(sum);
}

// The library's sort, which calls back for each comparison.
static int compare(const void *x, const void *y) {
  uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
  return (a > b) - (a < b);
}
static void callback(void) {
  memcpy(scratch, words, sizeof scratch);
  qsort(scratch, COUNT / 4, sizeof *scratch, compare);
  mix(scratch[COUNT / 8]);
}

// Heap sort: a loop of swaps downwards in a loop.
static void heapsort(void) {
  memcpy(scratch, words, sizeof scratch);
  uint32_t count = COUNT;
  for (uint32_t start = COUNT / 2; count > 1;) {
    if (start > 0) {
      start--;
    } else {
      uint32_t swap = scratch[--count];
      scratch[count] = scratch[0];
      scratch[0] = swap;
    }
    uint32_t root = start, value = scratch[root];
    for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
      if (child + 1 < count && scratch[child + 1] > scratch[child]) child++;
      if (scratch[child] <= value) break;
      scratch[root] = scratch[child];
    }
    scratch[root] = value;
  }
  mix(scratch[COUNT / 3]);
}

// Radix sort: four passes of counting.
static void radix(void) {
  static uint32_t other[COUNT];
  uint32_t *from = scratch, *to = other;
  memcpy(scratch, words, sizeof scratch);
  for (int shift = 0; shift < 32; shift += 8) {
    uint32_t starts[257] = {0};
    for (int i = 0; i < COUNT; i++) starts[(from[i] >> shift & 255) + 1]++;
    for (int i = 0; i < 256; i++) starts[i + 1] += starts[i];
    for (int i = 0; i < COUNT; i++) to[starts[from[i] >> shift & 255]++] = from[i];
    uint32_t *swap = from;
    from = to;
    to = swap;
  }
  mix(scratch[COUNT / 3]);
}

// Trees of malloc'd nodes, built and counted by recursion.
typedef struct Tree { struct Tree *left, *right; } Tree;
static Tree *grow(int depth) {
  Tree *tree = malloc(sizeof *tree);
  if (!tree) fail("out of memory");
  tree->left = depth ? grow(depth - 1) : NULL;
  tree->right = depth ? grow(depth - 1) : NULL;
  return tree;
}
static uint32_t fell(Tree *tree) {
  uint32_t count = 1 + (tree->left ? fell(tree->left) + fell(tree->right) : 0);
  free(tree);
  return count;
}
static void trees(void) { mix(fell(grow(10))); }

// The game of life on bytes, with a border.
static void life(void) {
  static uint8_t cells[2][130][130];
  for (int i = 1; i < 129; i++)
    for (int j = 1; j < 129; j++) cells[0][i][j] = words[(i * 128 + j) & (COUNT - 1)] & 1;
  for (int turn = 0; turn < 4; turn++) {
    uint8_t(*from)[130] = cells[turn & 1], (*to)[130] = cells[~turn & 1];
    for (int i = 1; i < 129; i++)
      for (int j = 1; j < 129; j++) {
        int around = from[i - 1][j - 1] + from[i - 1][j] + from[i - 1][j + 1] + from[i][j - 1] + from[i][j + 1] +
                     from[i + 1][j - 1] + from[i + 1][j] + from[i + 1][j + 1];
        to[i][j] = around == 3 || (around == 2 && from[i][j]);
      }
  }
  mix(fnv(FNV_START, cells, sizeof cells));
}

// An interpreter of the usual kind: a switch in a loop, registers in memory. Its program counts primes by trial.
enum { SET, ADD, REM, LESS, JUMP_ZERO, JUMP, COUNT_UP, HALT };
static void switched(void) {
  static const uint8_t code[][4] = {
    {SET, 0, 2}, {SET, 3, 0}, {SET, 4, 1},                      // n = 2, found = 0, one = 1
    {LESS, 5, 0, 6}, {JUMP_ZERO, 5, 16},                        // while n < limit
    {SET, 1, 2},                                                // d = 2
    {LESS, 5, 1, 0}, {JUMP_ZERO, 5, 12},                        // while d < n
    {REM, 2, 0, 1}, {JUMP_ZERO, 2, 13},                         // if n % d == 0, not a prime
    {ADD, 1, 1, 4}, {JUMP, 0, 6},                               // d++
    {COUNT_UP, 3}, {ADD, 0, 0, 4}, {JUMP, 0, 3}, {HALT}, {HALT},
  };
  uint32_t r[8] = {0};
  r[6] = 400;
  for (uint32_t at = 0;;) {
    const uint8_t *op = code[at++];
    switch (op[0]) {
    case SET: r[op[1]] = op[2]; break;
    case ADD: r[op[1]] = r[op[2]] + r[op[3]]; break;
    case REM: r[op[1]] = r[op[2]] % r[op[3]]; break;
    case LESS: r[op[1]] = r[op[2]] < r[op[3]]; break;
    case JUMP_ZERO: if (!r[op[1]]) at = op[2]; break;
    case JUMP: at = op[2]; break;
    case COUNT_UP: r[op[1]]++; break;
    case HALT: mix(r[3]); return;
    }
  }
}

// XTEA over a buffer: 64 rounds of adds, shifts and exclusive ors, each on the result of the one before.
static void xtea(void) {
  const uint32_t key[4] = {1, 22, 333, 4444};
  for (int i = 0; i < 512; i += 2) {
    uint32_t v = words[i], w = words[i + 1], sum = 0;
    for (int round = 0; round < 32; round++) {
      v += ((w << 4 ^ w >> 5) + w) ^ (sum + key[sum & 3]);
      sum += 0x9e3779b9u;
      w += ((v << 4 ^ v >> 5) + v) ^ (sum + key[sum >> 11 & 3]);
    }
    mix((uint64_t)v << 32 | w);
  }
}

// Numbers of 64 words multiplied: 64-bit products with carries.
static void bignum(void) {
  static uint32_t product[128];
  memset(product, 0, sizeof product);
  for (int i = 0; i < 64; i++) {
    uint64_t carry = 0;
    for (int j = 0; j < 64; j++) {
      carry += (uint64_t)words[i] * words[64 + j] + product[i + j];
      product[i + j] = (uint32_t)carry;
      carry >>= 32;
    }
    product[i + 64] = (uint32_t)carry;
  }
  mix(product[70]);
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"tak", tak}, {"queens", queens}, {"acker", acker}, {"mutual", mutual}, {"leaf", leaf}, {"virtual", virtual}, {"utf8", utf8},
  {"base64", base64}, {"tokens", tokens}, {"histogram", histogram}, {"find", find}, {"table", table}, {"callback", callback},
  {"heapsort", heapsort}, {"radix", radix}, {"trees", trees}, {"life", life}, {"switched", switched}, {"xtea", xtea},
  {"bignum", bignum},
};

#include "tasks.h"
