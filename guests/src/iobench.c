// What calls about files cost, measured by the program itself; prints nanoseconds an operation.
//
//   iobench pread FILE N    reads of 4 KiB at random places of a file of 64 MiB, which is made first
//   iobench pwrite FILE N   the same, writes
//   iobench append FILE N   writes of 100 bytes at the end of a new file
//   iobench make DIR N      N files of 64 bytes in directories of 1000
//   iobench walk DIR N      all names below DIR, and their attributes; N is how many files there must be
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE (64u << 20)

static char buffer[4096];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void need(int ok, const char *what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static long walk(const char *path) {
  long files = 0;
  DIR *dir = opendir(path);
  need(dir != NULL, path);
  for (struct dirent *e; (e = readdir(dir));) {
    char below[4096];
    struct stat s;
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    snprintf(below, sizeof below, "%s/%s", path, e->d_name);
    need(lstat(below, &s) == 0, below);
    files += S_ISDIR(s.st_mode) ? walk(below) : 1;
  }
  closedir(dir);
  return files;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  const char *op = argv[1], *path = argv[2];
  long n = strtol(argv[3], NULL, 10);
  uint64_t random = 88172645463325252u, began = 0;
  if (!strcmp(op, "pread") || !strcmp(op, "pwrite")) {
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    need(fd >= 0, path);
    memset(buffer, 'x', sizeof buffer);
    for (uint32_t at = 0; at < SIZE; at += sizeof buffer) need(pwrite(fd, buffer, sizeof buffer, at) == sizeof buffer, "pwrite");
    began = now();
    for (long i = 0; i < n; i++) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      off_t at = (off_t)(random % (SIZE / sizeof buffer) * sizeof buffer);
      ssize_t done = op[1] == 'r' ? pread(fd, buffer, sizeof buffer, at) : pwrite(fd, buffer, sizeof buffer, at);
      need(done == sizeof buffer, op);
    }
  } else if (!strcmp(op, "append")) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
    need(fd >= 0, path);
    began = now();
    for (long i = 0; i < n; i++) need(write(fd, buffer, 100) == 100, "write");
  } else if (!strcmp(op, "make")) {
    char name[4096];
    began = now();
    for (long i = 0; i < n; i++) {
      snprintf(name, sizeof name, "%s/%ld", path, i / 1000);
      if (i % 1000 == 0) need(mkdir(name, 0777) == 0, name);
      snprintf(name, sizeof name, "%s/%ld/%ld", path, i / 1000, i);
      int fd = open(name, O_WRONLY | O_CREAT, 0666);
      need(fd >= 0 && write(fd, buffer, 64) == 64 && close(fd) == 0, name);
    }
  } else if (!strcmp(op, "walk")) {
    began = now();
    need(walk(path) == n, "all files");
  } else {
    return 2;
  }
  printf("%llu\n", (unsigned long long)((now() - began) / (uint64_t)n));
  return 0;
}
