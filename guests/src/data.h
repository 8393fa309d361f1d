// What programs made of tasks share: a running checksum, small random numbers, and text made of parts.
#ifndef DATA_H
#define DATA_H

#include "guest.h"

#define NOINLINE __attribute__((noinline))
#define TEXT (1 << 14)
static char text[TEXT + 1];
static uint64_t hash, seed;

static void mix(uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; }
static int random_below(int bound) { return (int)(next_random(&seed) % (uint64_t)bound); }

// Begins a checksum and the random numbers, and fills `text`.
static void make_text(uint64_t from, const char *const *parts, int count) {
  hash = FNV_START;
  seed = from;
  size_t at = 0;
  while (at < TEXT) {
    const char *part = parts[random_below(count)];
    for (; *part && at < TEXT; part++) text[at++] = *part;
  }
}

#endif
