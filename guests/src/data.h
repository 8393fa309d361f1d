// What several programs made of tasks share: text and noise made once from a seed, a running checksum, small random numbers.
#ifndef DATA_H
#define DATA_H

#include "guest.h"

#define NOINLINE __attribute__((noinline))
#define TEXT (1 << 14)
static char text[TEXT + 1];
static uint8_t noise[TEXT];
static uint64_t hash, seed;

static void mix(uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; }
static int random_below(int bound) { return (int)(next_random(&seed) % (uint64_t)bound); }

static void make_data(void) {
  static const char *const parts[] = {"it ", "was ", "a ", "bright ", "cold ", "day ", "in ", "april, ", "and ", "the ", "clocks ",
                                      "were ", "striking ", "thirteen. ", "winston ", "smith "};
  hash = FNV_START;
  seed = 1984;
  size_t at = 0;
  while (at < TEXT) {
    const char *part = parts[random_below(16)];
    for (; *part && at < TEXT; part++) text[at++] = *part;
  }
  text[TEXT] = 0;
  for (int i = 0; i < TEXT; i++) noise[i] = (uint8_t)next_random(&seed);
}

#endif
