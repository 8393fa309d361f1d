// What the guest programs share: a seeded generator, a running checksum and reading of numeric arguments.
// Everything here depends on its inputs alone: no clock, no host randomness, no addresses in the output.
#ifndef GUEST_H
#define GUEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The index-th argument as a number, `otherwise` when it is missing; leaves with code 2 when it is not a number.
static inline uint64_t arg_number(int argc, char **argv, int index, uint64_t otherwise) {
  if (argc <= index) return otherwise;
  char *end;
  uint64_t value = strtoull(argv[index], &end, 10);
  if (*end != 0 || end == argv[index]) {
    fprintf(stderr, "%s: argument %d is not a number: %s\n", argv[0], index, argv[index]);
    exit(2);
  }
  return value;
}

// SplitMix64 (Steele, Lea, Flood 2014): any seed is good.
static inline uint64_t next_random(uint64_t *seed) {
  uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// FNV-1a over bytes, continued from `hash` (start with FNV_START).
#define FNV_START 0xcbf29ce484222325u
static inline uint64_t fnv(uint64_t hash, const void *bytes, size_t length) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < length; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
  return hash;
}

static inline void fail(const char *what) {
  fflush(stdout);
  fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

#endif
