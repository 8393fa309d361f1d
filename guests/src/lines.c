// Prints COUNT numbered lines, each with a number that WORK steps of arithmetic lead to, so that a kill finds it between
// or inside lines. Every line is flushed by itself and carries on from the one before: a lost, repeated or torn line shows.
// Every 16th line goes to stderr as well when the third argument is 1. usage: lines [COUNT] [WORK] [STDERR]
#include "guest.h"
#include <unistd.h>

static uint64_t work(uint64_t state, uint64_t steps) {
  for (uint64_t i = 0; i < steps; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
  }
  return state;
}

int main(int argc, char **argv) {
  uint64_t count = arg_number(argc, argv, 1, 100), steps = arg_number(argc, argv, 2, 100000);
  int twice = arg_number(argc, argv, 3, 0) == 1;
  uint64_t state = 88172645463325252u;
  for (uint64_t i = 1; i <= count; i++) {
    char line[64];
    state = work(state, steps);
    int length = snprintf(line, sizeof line, "%08llu %016llx\n", (unsigned long long)i, (unsigned long long)state);
    if (write(STDOUT_FILENO, line, length) != length) return 1;
    if (twice && i % 16 == 0 && write(STDERR_FILENO, line, length) != length) return 1;
  }
  return 0;
}
