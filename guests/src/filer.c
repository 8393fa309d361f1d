// Does to files what its arguments say, one word after the other:
//
//   write PATH TEXT   append PATH TEXT   cat PATH        rm PATH          mkdir PATH       rmdir PATH
//   mv FROM TO        ln FROM TO         symlink TO PATH  size PATH BYTES  ls PATH          stat PATH
//   log PATH N        N numbered lines, each written to standard output, to the file and, opened and closed for it,
//                     appended to PATH.each; some work in between
//   hold PATH         opens the file and keeps it open to the end
//   held              prints the content of what is held
//   spin N            N rounds of work
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile uint64_t sum;

static void spin(long n) {
  for (long i = 0; i < n; i++) sum = sum * 6364136223846793005u + 1442695040888963407u;
}

static void check(int ok, const char *what, const char *path) {
  if (ok) return;
  printf("%s %s: %s\n", what, path, strerror(errno));
  exit(1);
}

static void put(int fd, const char *text) {
  size_t len = strlen(text);
  check(write(fd, text, len) == (ssize_t)len, "write", "");
}

static void copy_to_output(int fd) {
  char buffer[4096];
  ssize_t n;
  lseek(fd, 0, SEEK_SET);
  while ((n = read(fd, buffer, sizeof buffer)) > 0) check(write(1, buffer, (size_t)n) == n, "write", "stdout");
  check(n == 0, "read", "");
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
  char *names[1024];
  int count = 0;
  DIR *dir = opendir(path);
  check(dir != NULL, "opendir", path);
  for (struct dirent *e; (e = readdir(dir)) && count < 1024;)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) names[count++] = strdup(e->d_name);
  closedir(dir);
  qsort(names, (size_t)count, sizeof *names, by_name);
  for (int i = 0; i < count; i++) printf("%s\n", names[i]);
  fflush(stdout);
}

static void log_lines(const char *path, long count) {
  char each[4096], line[64];
  snprintf(each, sizeof each, "%s.each", path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  check(fd >= 0, "open", path);
  unlink(each);
  for (long i = 0; i < count; i++) {
    snprintf(line, sizeof line, "line %06ld\n", i);
    put(1, line);
    put(fd, line);
    int again = open(each, O_WRONLY | O_CREAT | O_APPEND, 0666);
    check(again >= 0, "open", each);
    put(again, line);
    close(again);
    spin(20000);
  }
  close(fd);
}

int main(int argc, char **argv) {
  int held = -1;
  for (int i = 1; i < argc;) {
    const char *op = argv[i];
    const char *a = i + 1 < argc ? argv[i + 1] : "";
    const char *b = i + 2 < argc ? argv[i + 2] : "";
    if (!strcmp(op, "write") || !strcmp(op, "append")) {
      int fd = open(a, O_WRONLY | O_CREAT | (*op == 'w' ? O_TRUNC : O_APPEND), 0666);
      check(fd >= 0, op, a);
      put(fd, b);
      check(close(fd) == 0, op, a);
      i += 3;
    } else if (!strcmp(op, "cat")) {
      int fd = open(a, O_RDONLY);
      check(fd >= 0, op, a);
      copy_to_output(fd);
      close(fd);
      i += 2;
    } else if (!strcmp(op, "rm")) {
      check(unlink(a) == 0, op, a);
      i += 2;
    } else if (!strcmp(op, "mkdir")) {
      check(mkdir(a, 0777) == 0, op, a);
      i += 2;
    } else if (!strcmp(op, "rmdir")) {
      check(rmdir(a) == 0, op, a);
      i += 2;
    } else if (!strcmp(op, "mv")) {
      check(rename(a, b) == 0, op, a);
      i += 3;
    } else if (!strcmp(op, "ln")) {
      check(link(a, b) == 0, op, a);
      i += 3;
    } else if (!strcmp(op, "symlink")) {
      check(symlink(a, b) == 0, op, b);
      i += 3;
    } else if (!strcmp(op, "size")) {
      int fd = open(a, O_WRONLY | O_CREAT, 0666);
      check(fd >= 0 && ftruncate(fd, strtoll(b, NULL, 10)) == 0, op, a);
      close(fd);
      i += 3;
    } else if (!strcmp(op, "ls")) {
      list(a);
      i += 2;
    } else if (!strcmp(op, "stat")) {
      struct stat s;
      check(lstat(a, &s) == 0, op, a);
      printf("%s %lld bytes, %lld links\n", a, (long long)s.st_size, (long long)s.st_nlink);
      fflush(stdout);
      i += 2;
    } else if (!strcmp(op, "log")) {
      log_lines(a, strtol(b, NULL, 10));
      i += 3;
    } else if (!strcmp(op, "hold")) {
      held = open(a, O_RDWR);
      check(held >= 0, op, a);
      i += 2;
    } else if (!strcmp(op, "held")) {
      copy_to_output(held);
      i += 1;
    } else if (!strcmp(op, "spin")) {
      spin(strtol(a, NULL, 10));
      i += 2;
    } else {
      fprintf(stderr, "filer: what is `%s`?\n", op);
      return 2;
    }
  }
  return 0;
}
