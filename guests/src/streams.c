// What comes in and goes out, line by line, with work in between so that a kill finds it anywhere. Every line of output is one write and
// carries on from the one before: a lost, repeated or torn line shows.
//   streams print COUNT WORK [FILE]...   numbered lines to stdout, every third to stderr instead, and all of them to each FILE (4 at most),
//                                     which is emptied first
//   streams copy WORK                 stdin to stdout, each line with its number and a checksum of all so far
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

static uint64_t work(uint64_t state, uint64_t steps) {
  for (uint64_t i = 0; i < steps; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
  }
  return state;
}

static void put(int fd, const char *bytes, int length) {
  if (write(fd, bytes, length) != length) fail("write");
}

static int print(uint64_t count, uint64_t steps, int paths, char **path) {
  int file[4];
  if (paths > 4) fail("too many files");
  for (int i = 0; i < paths; i++)
    if ((file[i] = open(path[i], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666)) < 0) fail("open");
  uint64_t state = 88172645463325252u;
  for (uint64_t i = 1; i <= count; i++) {
    char line[64];
    state = work(state, steps);
    int length = snprintf(line, sizeof line, "%08llu %016llx\n", (unsigned long long)i, (unsigned long long)state);
    put(i % 3 == 0 ? STDERR_FILENO : STDOUT_FILENO, line, length);
    for (int at = 0; at < paths; at++) put(file[at], line, length);
  }
  return 0;
}

static int copy(uint64_t steps) {
  static char in[5000], out[5100];
  int length = 0;
  uint64_t number = 0, hash = FNV_START;
  for (;;) {
    ssize_t got = read(STDIN_FILENO, in + length, sizeof in - length);
    if (got < 0) fail("read");
    if (got == 0) break;
    length += got;
    char *at = in, *end;
    while ((end = memchr(at, '\n', in + length - at))) {
      hash = work(fnv(hash, at, end + 1 - at), steps);
      int n = snprintf(out, sizeof out, "%llu %016llx %.*s\n", (unsigned long long)++number, (unsigned long long)hash,
                       (int)(end - at), at);
      put(STDOUT_FILENO, out, n);
      at = end + 1;
    }
    length -= at - in;
    memmove(in, at, length);
    if (length == (int)sizeof in) fail("a line is too long");
  }
  return length != 0;
}

int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "print"))
    return print(arg_number(argc, argv, 2, 100), arg_number(argc, argv, 3, 1000), argc > 4 ? argc - 4 : 0, argv + 4);
  if (argc > 1 && !strcmp(argv[1], "copy")) return copy(arg_number(argc, argv, 2, 1000));
  fprintf(stderr, "usage: streams print COUNT WORK [FILE] | copy WORK\n");
  return 2;
}
