// What depends on time and chance: clocks, sleeping, random numbers, a read that waits.
//
//   chance log N      N lines: monotonic time and wall time in ns, 8 random bytes; some work and a sleep of 1 ms between
//   chance sleep MS   sleeps; prints the milliseconds that have passed
//   chance read       reads a line of standard input, prints it
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void rest(uint64_t ms) {
  struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
}

int main(int argc, char **argv) {
  if (argc >= 3 && !strcmp(argv[1], "log")) {
    uint64_t sum = 1;
    for (int i = 0; i < atoi(argv[2]); i++) {
      uint64_t random;
      getentropy(&random, sizeof random);
      printf("%llu %llu %016llx\n", (unsigned long long)now(CLOCK_MONOTONIC), (unsigned long long)now(CLOCK_REALTIME),
             (unsigned long long)random);
      for (int j = 0; j < 100000; j++) sum = sum * 6364136223846793005u + random;
      rest(1);
    }
    printf("%016llx\n", (unsigned long long)sum);
  } else if (argc >= 3 && !strcmp(argv[1], "sleep")) {
    uint64_t began = now(CLOCK_MONOTONIC);
    fprintf(stderr, "sleeping\n");
    rest(strtoull(argv[2], NULL, 10));
    printf("%llu\n", (unsigned long long)((now(CLOCK_MONOTONIC) - began) / 1000000));
  } else if (argc >= 2 && !strcmp(argv[1], "read")) {
    char line[256];
    fprintf(stderr, "reading\n");
    if (fgets(line, sizeof line, stdin)) fputs(line, stdout);
  } else {
    fprintf(stderr, "usage: chance log N | sleep MS | read\n");
    return 2;
  }
  return 0;
}
