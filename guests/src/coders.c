// What encodes, packs, encrypts and checks: ciphers, checksums, codes and formats, with shifts, tables and bytes.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: coders NAME|all [TURNS]
#include "prose.h"

static inline uint32_t rotl32(uint32_t x, int n) { return x << n | x >> (32 - n); }
static inline uint64_t rotl64(uint64_t x, int n) { return x << n | x >> (64 - n); }
static inline uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

// ChaCha20: 20 rounds over a 16-word state.
#define QUARTER(a, b, c, d) \
  a += b, d = rotl32(d ^ a, 16), c += d, b = rotl32(b ^ c, 12), a += b, d = rotl32(d ^ a, 8), c += d, b = rotl32(b ^ c, 7)
static void chacha_block(const uint32_t in[16], uint8_t out[64]) {
  uint32_t x[16];
  memcpy(x, in, sizeof x);
  for (int i = 0; i < 10; i++) {
    QUARTER(x[0], x[4], x[8], x[12]); QUARTER(x[1], x[5], x[9], x[13]);
    QUARTER(x[2], x[6], x[10], x[14]); QUARTER(x[3], x[7], x[11], x[15]);
    QUARTER(x[0], x[5], x[10], x[15]); QUARTER(x[1], x[6], x[11], x[12]);
    QUARTER(x[2], x[7], x[8], x[13]); QUARTER(x[3], x[4], x[9], x[14]);
  }
  for (int i = 0; i < 16; i++) {
    uint32_t v = x[i] + in[i];
    memcpy(out + 4 * i, &v, 4);
  }
}
static void chacha(void) {
  uint32_t state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  uint8_t key[64];
  for (int i = 4; i < 16; i++) state[i] = (uint32_t)next_random(&seed);
  uint32_t sum = 0;
  for (int round = 0; round < 2; round++) for (int at = 0; at < TEXT; at += 64) {
    chacha_block(state, key);
    state[12]++;
    for (int i = 0; i < 64; i++) sum = sum * 31 + (uint8_t)(key[i] ^ (uint8_t)text[at + i]);
  }
  mix(sum);
}

// Poly1305 with 26-bit limbs and 64-bit products.
static void poly1305(void) {
  uint32_t r0 = 0x3ffffff & (uint32_t)next_random(&seed), r1 = 0x3ffff03 & (uint32_t)next_random(&seed);
  uint32_t r2 = 0x3ffc0ff & (uint32_t)next_random(&seed), r3 = 0x3f03fff & (uint32_t)next_random(&seed), r4 = 0x00fffff;
  uint32_t s1 = r1 * 5, s2 = r2 * 5, s3 = r3 * 5, s4 = r4 * 5, h0 = 0, h1 = 0, h2 = 0, h3 = 0, h4 = 0;
  for (int round = 0; round < 10; round++) for (const uint8_t *m = noise; m < noise + TEXT; m += 16) {
    h0 += load32(m) & 0x3ffffff;
    h1 += load32(m + 3) >> 2 & 0x3ffffff;
    h2 += load32(m + 6) >> 4 & 0x3ffffff;
    h3 += load32(m + 9) >> 6;
    h4 += load32(m + 12) >> 8 | 1 << 24;
    uint64_t d0 = (uint64_t)h0 * r0 + (uint64_t)h1 * s4 + (uint64_t)h2 * s3 + (uint64_t)h3 * s2 + (uint64_t)h4 * s1;
    uint64_t d1 = (uint64_t)h0 * r1 + (uint64_t)h1 * r0 + (uint64_t)h2 * s4 + (uint64_t)h3 * s3 + (uint64_t)h4 * s2;
    uint64_t d2 = (uint64_t)h0 * r2 + (uint64_t)h1 * r1 + (uint64_t)h2 * r0 + (uint64_t)h3 * s4 + (uint64_t)h4 * s3;
    uint64_t d3 = (uint64_t)h0 * r3 + (uint64_t)h1 * r2 + (uint64_t)h2 * r1 + (uint64_t)h3 * r0 + (uint64_t)h4 * s4;
    uint64_t d4 = (uint64_t)h0 * r4 + (uint64_t)h1 * r3 + (uint64_t)h2 * r2 + (uint64_t)h3 * r1 + (uint64_t)h4 * r0;
    d1 += d0 >> 26, h0 = d0 & 0x3ffffff;
    d2 += d1 >> 26, h1 = d1 & 0x3ffffff;
    d3 += d2 >> 26, h2 = d2 & 0x3ffffff;
    d4 += d3 >> 26, h3 = d3 & 0x3ffffff;
    h4 = d4 & 0x3ffffff;
    h0 += (uint32_t)(d4 >> 26) * 5;
    h1 += h0 >> 26, h0 &= 0x3ffffff;
  }
  mix(h0), mix(h1), mix(h2), mix(h3), mix(h4);
}

// SipHash-2-4 of many short texts and a long one.
#define SIPROUND \
  v0 += v1, v1 = rotl64(v1, 13) ^ v0, v0 = rotl64(v0, 32), v2 += v3, v3 = rotl64(v3, 16) ^ v2, v0 += v3, v3 = rotl64(v3, 21) ^ v0, \
      v2 += v1, v1 = rotl64(v1, 17) ^ v2, v2 = rotl64(v2, 32)
NOINLINE static uint64_t sip(const uint8_t *in, size_t length, uint64_t k0, uint64_t k1) {
  uint64_t v0 = 0x736f6d6570736575u ^ k0, v1 = 0x646f72616e646f6du ^ k1, v2 = 0x6c7967656e657261u ^ k0, v3 = 0x7465646279746573u ^ k1;
  uint64_t last = (uint64_t)length << 56;
  const uint8_t *end = in + (length & ~(size_t)7);
  for (; in != end; in += 8) {
    uint64_t m = load64(in);
    v3 ^= m;
    SIPROUND; SIPROUND;
    v0 ^= m;
  }
  for (size_t i = 0; i < (length & 7); i++) last |= (uint64_t)in[i] << 8 * i;
  v3 ^= last;
  SIPROUND; SIPROUND;
  v0 ^= last, v2 ^= 0xff;
  SIPROUND; SIPROUND; SIPROUND; SIPROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}
static void siphash(void) {
  uint64_t k0 = next_random(&seed), k1 = next_random(&seed), all = 0;
  for (int i = 0; i < 5000; i++) all ^= sip(noise + i, (size_t)(i & 31), k0, k1);
  mix(all ^ sip(noise, TEXT - 3, k0, k1));
}

// AES-128 by tables, in CBC mode.
static uint8_t sbox[256];
static uint32_t te[4][256];
static void aes_tables(void) {
  uint8_t p = 1, q = 1;
  do {
    p = (uint8_t)(p ^ p << 1 ^ (p & 0x80 ? 0x1b : 0));
    q ^= (uint8_t)(q << 1), q ^= (uint8_t)(q << 2), q ^= (uint8_t)(q << 4);
    if (q & 0x80) q ^= 9;
    uint8_t x = (uint8_t)(q ^ (q << 1 | q >> 7) ^ (q << 2 | q >> 6) ^ (q << 3 | q >> 5) ^ (q << 4 | q >> 4));
    sbox[p] = x ^ 0x63;
  } while (p != 1);
  sbox[0] = 0x63;
  for (int i = 0; i < 256; i++) {
    uint32_t s = sbox[i], s2 = (s << 1 ^ (s & 0x80 ? 0x1b : 0)) & 0xff;
    te[0][i] = s2 << 24 | s << 16 | s << 8 | (s2 ^ s);
    for (int k = 1; k < 4; k++) te[k][i] = rotl32(te[k - 1][i], 24);
  }
}
static inline uint32_t subword(uint32_t w) {
  return (uint32_t)sbox[w >> 24] << 24 | (uint32_t)sbox[w >> 16 & 255] << 16 | (uint32_t)sbox[w >> 8 & 255] << 8 | sbox[w & 255];
}
static void aes(void) {
  if (!sbox[0]) aes_tables();
  uint32_t rk[44], rcon = 1;
  for (int i = 0; i < 4; i++) rk[i] = (uint32_t)next_random(&seed);
  for (int i = 4; i < 44; i++) {
    uint32_t w = rk[i - 1];
    if (i % 4 == 0) w = subword(rotl32(w, 8)) ^ rcon << 24, rcon = (rcon << 1 ^ (rcon & 0x80 ? 0x1b : 0)) & 0xff;
    rk[i] = rk[i - 4] ^ w;
  }
  uint32_t c[4] = {0, 0, 0, 0};
  for (int at = 0; at < TEXT / 2; at += 16) {
    uint32_t s[4], t[4];
    for (int i = 0; i < 4; i++) s[i] = __builtin_bswap32(load32(noise + at + 4 * i)) ^ c[i] ^ rk[i];
    for (int r = 1; r < 10; r++) {
      for (int i = 0; i < 4; i++)
        t[i] = te[0][s[i] >> 24] ^ te[1][s[(i + 1) & 3] >> 16 & 255] ^ te[2][s[(i + 2) & 3] >> 8 & 255] ^ te[3][s[(i + 3) & 3] & 255] ^ rk[4 * r + i];
      memcpy(s, t, sizeof s);
    }
    for (int i = 0; i < 4; i++)
      c[i] = ((uint32_t)sbox[s[i] >> 24] << 24 | (uint32_t)sbox[s[(i + 1) & 3] >> 16 & 255] << 16 |
              (uint32_t)sbox[s[(i + 2) & 3] >> 8 & 255] << 8 | sbox[s[(i + 3) & 3] & 255]) ^ rk[40 + i];
  }
  mix((uint64_t)c[0] << 32 | c[1]), mix((uint64_t)c[2] << 32 | c[3]);
}

// CRC-32C, eight bytes at a time by eight tables.
static void crcslice(void) {
  static uint32_t t[8][256];
  if (!t[0][1]) {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
      t[0][i] = c;
    }
    for (int i = 0; i < 256; i++) for (int k = 1; k < 8; k++) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
  }
  uint32_t crc = ~(uint32_t)hash;
  for (int round = 0; round < 10; round++) {
    for (const uint8_t *p = noise; p < noise + TEXT; p += 8) {
      uint32_t a = load32(p) ^ crc, b = load32(p + 4);
      crc = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24] ^ t[3][b & 255] ^ t[2][b >> 8 & 255] ^ t[1][b >> 16 & 255] ^ t[0][b >> 24];
    }
  }
  mix(~crc);
}

// Huffman coding: counts, a heap, a tree, codes by recursion, then bits out and in again.
static struct { int weight, left, right; } hnode[512];
static int hheap[257], hsize;
static uint32_t hcode[256];
static uint8_t hlength[256];
static void hpush(int n) {
  int i = hsize++;
  for (; i && hnode[hheap[(i - 1) / 2]].weight > hnode[n].weight; i = (i - 1) / 2) hheap[i] = hheap[(i - 1) / 2];
  hheap[i] = n;
}
static int hpop(void) {
  int top = hheap[0], last = hheap[--hsize], i = 0;
  for (int child; (child = 2 * i + 1) < hsize; i = child) {
    if (child + 1 < hsize && hnode[hheap[child + 1]].weight < hnode[hheap[child]].weight) child++;
    if (hnode[hheap[child]].weight >= hnode[last].weight) break;
    hheap[i] = hheap[child];
  }
  hheap[i] = last;
  return top;
}
static void hassign(int n, uint32_t code, int length) {
  if (n < 256) {
    hcode[n] = code, hlength[n] = (uint8_t)length;
    return;
  }
  hassign(hnode[n].left, code << 1, length + 1);
  hassign(hnode[n].right, code << 1 | 1, length + 1);
}
static void huffman(void) {
  static uint8_t out[TEXT];
  const int size = 9000, from = random_below(TEXT - size);
  int next = 256;
  hsize = 0;
  for (int i = 0; i < 256; i++) hnode[i].weight = 0;
  for (int i = 0; i < size; i++) hnode[(uint8_t)text[from + i]].weight++;
  for (int i = 0; i < 256; i++) if (hnode[i].weight) hpush(i);
  while (hsize > 1) {
    int a = hpop(), b = hpop();
    hnode[next].weight = hnode[a].weight + hnode[b].weight, hnode[next].left = a, hnode[next].right = b;
    hpush(next++);
  }
  int root = hpop();
  hassign(root, 0, 0);
  uint64_t bits = 0;
  int held = 0, length = 0;
  for (int i = 0; i < size; i++) {
    uint8_t c = (uint8_t)text[from + i];
    bits = bits << hlength[c] | hcode[c], held += hlength[c];
    while (held >= 8) held -= 8, out[length++] = (uint8_t)(bits >> held);
  }
  out[length++] = (uint8_t)(bits << (8 - held));
  int good = 0;
  for (int i = 0, bit = 0; i < size; i++) {
    int n = root;
    for (; n >= 256; bit++) n = out[bit >> 3] >> (7 - (bit & 7)) & 1 ? hnode[n].right : hnode[n].left;
    good += n == text[from + i];
  }
  mix((uint64_t)good), mix((uint64_t)length), mix(fnv(FNV_START, out, 64));
}

// LZ4's format: a hash table of positions, literals and matches; then back again.
static int lz_pack(const uint8_t *in, int size, uint8_t *out) {
  static uint16_t seen[4096];
  memset(seen, 0, sizeof seen);
  int at = 1, anchor = 0;
  uint8_t *to = out;
  while (at < size - 12) {
    uint32_t word = load32(in + at), slot = word * 2654435761u >> 20;
    int match = seen[slot];
    seen[slot] = (uint16_t)at;
    if (load32(in + match) != word) {
      at++;
      continue;
    }
    int length = 4;
    while (at + length < size - 5 && in[match + length] == in[at + length]) length++;
    int literals = at - anchor, more = length - 4;
    uint8_t *token = to++;
    *token = (uint8_t)((literals < 15 ? literals : 15) << 4 | (more < 15 ? more : 15));
    if (literals >= 15) {
      int n = literals - 15;
      for (; n >= 255; n -= 255) *to++ = 255;
      *to++ = (uint8_t)n;
    }
    memcpy(to, in + anchor, (size_t)literals), to += literals;
    *to++ = (uint8_t)(at - match), *to++ = (uint8_t)((at - match) >> 8);
    if (more >= 15) {
      int n = more - 15;
      for (; n >= 255; n -= 255) *to++ = 255;
      *to++ = (uint8_t)n;
    }
    at += length, anchor = at;
  }
  int literals = size - anchor;
  *to++ = (uint8_t)((literals < 15 ? literals : 15) << 4);
  if (literals >= 15) {
    int n = literals - 15;
    for (; n >= 255; n -= 255) *to++ = 255;
    *to++ = (uint8_t)n;
  }
  memcpy(to, in + anchor, (size_t)literals), to += literals;
  return (int)(to - out);
}
static int lz_unpack(const uint8_t *in, int size, uint8_t *out) {
  const uint8_t *end = in + size;
  uint8_t *to = out;
  for (;;) {
    int token = *in++, literals = token >> 4, length = token & 15;
    if (literals == 15) {
      int n;
      do literals += n = *in++; while (n == 255);
    }
    for (int i = 0; i < literals; i++) *to++ = *in++;
    if (in >= end) return (int)(to - out);
    int offset = in[0] | in[1] << 8;
    in += 2;
    if (length == 15) {
      int n;
      do length += n = *in++; while (n == 255);
    }
    for (length += 4; length--; to++) *to = to[-offset];
  }
}
static void lz4pack(void) {
  static uint8_t packed[2 * TEXT];
  for (int i = 0; i < 6; i++) {
    int from = random_below(1000), length = lz_pack((const uint8_t *)text + from, TEXT - 1000, packed);
    mix((uint64_t)length), mix(load64(packed + random_below(1000)));
  }
}
static void lz4unpack(void) {
  static uint8_t packed[2 * TEXT], back[TEXT];
  static int length;
  if (!length) length = lz_pack((const uint8_t *)text, TEXT, packed);
  for (int i = 0; i < 12; i++) {
    int size = lz_unpack(packed, length, back);
    mix((uint64_t)size), mix(back[random_below(TEXT)]);
  }
}

// The Burrows-Wheeler transform: qsort with a comparator, then move to front.
static const uint8_t *bwt_text;
static int bwt_size;
static int bwt_compare(const void *left, const void *right) {
  int a = *(const int *)left, b = *(const int *)right;
  for (int i = 0; i < bwt_size; i++) {
    int d = bwt_text[a] - bwt_text[b];
    if (d) return d;
    if (++a == bwt_size) a = 0;
    if (++b == bwt_size) b = 0;
  }
  return *(const int *)left - *(const int *)right;
}
static void bwt(void) {
  int order[1000];
  uint8_t front[256];
  bwt_size = 1000, bwt_text = (const uint8_t *)text + random_below(TEXT - 1000);
  for (int i = 0; i < bwt_size; i++) order[i] = i;
  qsort(order, (size_t)bwt_size, sizeof order[0], bwt_compare);
  for (int i = 0; i < 256; i++) front[i] = (uint8_t)i;
  uint32_t sum = 0;
  for (int i = 0; i < bwt_size; i++) {
    uint8_t c = bwt_text[(order[i] + bwt_size - 1) % bwt_size];
    int k = 0;
    while (front[k] != c) k++;
    for (int j = k; j > 0; j--) front[j] = front[j - 1];
    front[0] = c;
    sum = sum * 33 + (uint32_t)k;
  }
  mix(sum);
}

// UTF-16 to UTF-8 and back, with surrogates.
static int utf16_to_8(const uint16_t *in, int n, uint8_t *out) {
  uint8_t *to = out;
  for (int i = 0; i < n; i++) {
    uint32_t c = in[i];
    int pair = c >= 0xd800 && c < 0xdc00 && i + 1 < n && in[i + 1] >= 0xdc00 && in[i + 1] < 0xe000;
    if (pair) c = 0x10000 + ((c - 0xd800) << 10) + (in[++i] - 0xdc00u);
    else if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    if (c < 0x80) *to++ = (uint8_t)c;
    else if (c < 0x800) *to++ = (uint8_t)(0xc0 | c >> 6), *to++ = (uint8_t)(0x80 | (c & 63));
    else if (c < 0x10000) *to++ = (uint8_t)(0xe0 | c >> 12), *to++ = (uint8_t)(0x80 | (c >> 6 & 63)), *to++ = (uint8_t)(0x80 | (c & 63));
    else *to++ = (uint8_t)(0xf0 | c >> 18), *to++ = (uint8_t)(0x80 | (c >> 12 & 63)),
         *to++ = (uint8_t)(0x80 | (c >> 6 & 63)), *to++ = (uint8_t)(0x80 | (c & 63));
  }
  return (int)(to - out);
}
static int utf8_to_16(const uint8_t *in, int n, uint16_t *out) {
  uint16_t *to = out;
  for (int i = 0; i < n;) {
    uint32_t c = in[i++];
    int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (more) c &= 0x3fu >> more;
    for (; more; more--) c = c << 6 | (in[i++] & 63);
    if (c < 0x10000) *to++ = (uint16_t)c;
    else c -= 0x10000, *to++ = (uint16_t)(0xd800 | c >> 10), *to++ = (uint16_t)(0xdc00 | (c & 0x3ff));
  }
  return (int)(to - out);
}
static void utf16(void) {
  static uint16_t wide[20016], back[20016];
  static uint8_t narrow[4 * 20016];
  int n = 0;
  while (n < 20000) {
    uint64_t dice = next_random(&seed);
    int kind = (int)(dice & 7);
    uint32_t c = (uint32_t)(dice >> 8);
    if (kind < 5) for (int k = 0; k < 12; k++) wide[n++] = (uint8_t)text[(c + (unsigned)k) % TEXT];
    else if (kind == 5) wide[n++] = (uint16_t)(0x80 + c % 0x780);
    else if (kind == 6) wide[n++] = (uint16_t)(0x800 + c % 0xe000);
    else wide[n++] = (uint16_t)(0xd800 + c % 0x400), wide[n++] = (uint16_t)(0xdc00 + (c >> 10) % 0x400);
  }
  int length = utf16_to_8(wide, n, narrow), again = utf8_to_16(narrow, length, back);
  mix((uint64_t)length), mix((uint64_t)again), mix(fnv(FNV_START, back + again - 100, 200));
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"chacha", chacha}, {"poly1305", poly1305}, {"siphash", siphash}, {"aes", aes}, {"crcslice", crcslice}, {"huffman", huffman},
  {"lz4pack", lz4pack}, {"lz4unpack", lz4unpack}, {"bwt", bwt}, {"utf16", utf16},
};

#include "tasks.h"
