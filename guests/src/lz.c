// An LZ77 compressor with hash chains and lazy matching, and its decompressor. Reads a file, or stdin for "-", or makes
// text of SIZE bytes itself; compresses, decompresses, compares; prints sizes and hashes. With OUT, writes the packed
// bytes there; with -d, unpacks IN to stdout.
// usage: lz [SIZE] | lz -c IN [OUT] | lz -d IN
//
// Packed form: u32 LE length, then tokens. Control byte c < 128: c + 1 literal bytes follow. c >= 128: a match of
// c - 128 + MIN_MATCH bytes (when c == 255, further bytes add to it until one is below 255), then u24 LE distance.
#include "guest.h"

#define MIN_MATCH 5
#define WINDOW (1 << 20)
#define HASH_BITS 16
#define MAX_CHAIN 48

typedef struct { unsigned char *data; size_t length, room; } Bytes;

static void append(Bytes *to, const void *from, size_t count) {
  if (to->length + count > to->room) {
    to->room = (to->length + count) * 2 + 64;
    to->data = realloc(to->data, to->room);
    if (!to->data) fail("out of memory");
  }
  memcpy(to->data + to->length, from, count);
  to->length += count;
}

static void append_byte(Bytes *to, unsigned char byte) { append(to, &byte, 1); }

static uint32_t hash_at(const unsigned char *at) {
  uint32_t four;
  memcpy(&four, at, 4);
  return ((four ^ at[4] * 0x9e3779b1u) * 2654435761u) >> (32 - HASH_BITS);
}

typedef struct { const unsigned char *data; size_t length; int32_t *head, *chain; } Finder;

static size_t longest_match(const Finder *f, size_t at, size_t *distance) {
  size_t best = 0, limit = f->length - at;
  if (limit < MIN_MATCH) return 0;
  int32_t candidate = f->head[hash_at(f->data + at)];
  for (int tries = 0; candidate >= 0 && tries < MAX_CHAIN; tries++) {
    if (at - candidate > WINDOW) break;
    const unsigned char *a = f->data + at, *b = f->data + candidate;
    if (b[best] == a[best]) {
      size_t length = 0;
      while (length < limit && a[length] == b[length]) length++;
      if (length > best) { best = length; *distance = at - candidate; }
      if (best == limit) break;
    }
    candidate = f->chain[candidate];
  }
  return best < MIN_MATCH ? 0 : best;
}

static void insert(Finder *f, size_t at) {
  if (f->length - at < MIN_MATCH) return;
  uint32_t slot = hash_at(f->data + at);
  f->chain[at] = f->head[slot];
  f->head[slot] = (int32_t)at;
}

static void put_literals(Bytes *out, const unsigned char *from, size_t count) {
  while (count > 0) {
    size_t part = count < 128 ? count : 128;
    append_byte(out, (unsigned char)(part - 1));
    append(out, from, part);
    from += part;
    count -= part;
  }
}

static void put_match(Bytes *out, size_t length, size_t distance) {
  size_t extra = length - MIN_MATCH;
  if (extra < 127) append_byte(out, (unsigned char)(128 + extra));
  else {
    append_byte(out, 255);
    for (extra -= 127; extra >= 255; extra -= 255) append_byte(out, 255);
    append_byte(out, (unsigned char)extra);
  }
  unsigned char three[3] = {distance & 255, distance >> 8 & 255, distance >> 16};
  append(out, three, 3);
}

static Bytes compress(const Bytes *in) {
  Finder f = {in->data, in->length, malloc(sizeof(int32_t) << HASH_BITS), malloc(sizeof(int32_t) * (in->length + 1))};
  Bytes out = {0};
  if (!f.head || !f.chain) fail("out of memory");
  memset(f.head, 0xff, sizeof(int32_t) << HASH_BITS);
  uint32_t total = (uint32_t)in->length;
  append(&out, &total, 4);
  size_t at = 0, literals = 0;
  while (at < in->length) {
    size_t distance = 0, next_distance = 0;
    size_t length = longest_match(&f, at, &distance);
    insert(&f, at);
    // Lazy matching: one byte later there may be a longer match.
    if (length && at + 1 < in->length && longest_match(&f, at + 1, &next_distance) > length) length = 0;
    if (!length) { at++; literals++; continue; }
    put_literals(&out, in->data + at - literals, literals);
    literals = 0;
    put_match(&out, length, distance);
    for (size_t i = 1; i < length; i++) insert(&f, at + i);
    at += length;
  }
  put_literals(&out, in->data + at - literals, literals);
  free(f.head);
  free(f.chain);
  return out;
}

static size_t match_length(const Bytes *in, size_t *at, unsigned char control) {
  size_t length = control - 128 + MIN_MATCH;
  if (control < 255) return length;
  for (;;) {
    if (*at >= in->length) fail("packed data ends inside a length");
    unsigned char more = in->data[(*at)++];
    length += more;
    if (more < 255) return length;
  }
}

static Bytes decompress(const Bytes *in) {
  Bytes out = {0};
  uint32_t total;
  if (in->length < 4) fail("packed data is too short");
  memcpy(&total, in->data, 4);
  size_t at = 4;
  while (at < in->length) {
    unsigned char control = in->data[at++];
    if (control < 128) {
      if (at + control + 1 > in->length) fail("packed data ends inside literals");
      append(&out, in->data + at, control + 1u);
      at += control + 1u;
      continue;
    }
    size_t length = match_length(in, &at, control);
    if (at + 3 > in->length) fail("packed data ends inside a distance");
    size_t distance = in->data[at] | in->data[at + 1] << 8 | in->data[at + 2] << 16;
    at += 3;
    if (distance == 0 || distance > out.length) fail("a match reaches before the start");
    for (size_t i = 0; i < length; i++) append_byte(&out, out.data[out.length - distance]);
  }
  if (out.length != total) fail("packed data has the wrong length");
  return out;
}

static Bytes read_all(const char *name) {
  FILE *file = strcmp(name, "-") ? fopen(name, "rb") : stdin;
  if (!file) fail("cannot open the input");
  Bytes all = {0};
  unsigned char part[8192];
  for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) append(&all, part, got);
  if (ferror(file)) fail("cannot read the input");
  if (file != stdin) fclose(file);
  return all;
}

// Text with a skewed choice of words, so that it packs about as well as prose.
static Bytes make_text(size_t size) {
  uint64_t seed = 77;
  char words[512][12];
  for (int w = 0; w < 512; w++) {
    int length = 2 + next_random(&seed) % 9;
    for (int i = 0; i < length; i++) words[w][i] = "etaoinshrdlucmfwypvbgkjqxz"[next_random(&seed) % (6 + i * 2)];
    words[w][length] = 0;
  }
  Bytes text = {0};
  while (text.length < size) {
    uint64_t r = next_random(&seed);
    const char *word = words[(r & 511) * (r >> 9 & 511) >> 9];
    append(&text, word, strlen(word));
    append_byte(&text, (r >> 20 & 15) ? ' ' : '\n');
  }
  text.length = size;
  return text;
}

int main(int argc, char **argv) {
  int packs_file = argc > 2 && !strcmp(argv[1], "-c"), unpacks = argc > 2 && !strcmp(argv[1], "-d");
  if (unpacks) {
    Bytes packed = read_all(argv[2]), text = decompress(&packed);
    return fwrite(text.data, 1, text.length, stdout) == text.length && fflush(stdout) == 0 ? 0 : 1;
  }
  Bytes text = packs_file ? read_all(argv[2]) : make_text(arg_number(argc, argv, 1, 1000000));
  Bytes packed = compress(&text), again = decompress(&packed);
  if (again.length != text.length || memcmp(again.data, text.data, text.length)) fail("the round trip changed the data");
  if (packs_file && argc > 3) {
    FILE *file = fopen(argv[3], "wb");
    if (!file || fwrite(packed.data, 1, packed.length, file) != packed.length || fclose(file)) fail("cannot write");
  }
  printf("%zu bytes, hash %016llx\n", text.length, (unsigned long long)fnv(FNV_START, text.data, text.length));
  printf("packed to %zu, hash %016llx\nround trip right\n", packed.length,
         (unsigned long long)fnv(FNV_START, packed.data, packed.length));
  return 0;
}
