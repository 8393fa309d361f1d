// An external merge sort: writes a file of records, cuts it into sorted runs of bounded memory, merges the runs eight at a
// time into new ones until one is left, renames that to the result and checks it by seeking about. Many opens, reads,
// writes, seeks, renames, unlinks and a directory listing. Works in DIR, which it makes under a preopened directory.
// usage: extsort DIR [RECORDS] [RECORDS_PER_RUN]
#include "guest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAN_IN 8
typedef struct { uint64_t key; uint32_t serial, check; } Record;

static const char *directory;
static uint64_t opens, renames, unlinks;

static void fail_errno(const char *what, const char *name) {
  fprintf(stderr, "failed: %s %s: %s\n", what, name, strerror(errno));
  exit(1);
}

static const char *path(const char *name) {
  static char buffers[4][256];
  static int turn;
  char *buffer = buffers[turn++ & 3];
  snprintf(buffer, sizeof buffers[0], "%s/%s", directory, name);
  return buffer;
}

static const char *run_name(int generation, int number) {
  static char name[32];
  snprintf(name, sizeof name, "run-%02d-%05d", generation, number);
  return name;
}

static FILE *open_file(const char *name, const char *mode) {
  FILE *file = fopen(path(name), mode);
  if (!file) fail_errno("open", name);
  opens++;
  return file;
}

static void put_records(FILE *file, const Record *records, size_t count) {
  if (fwrite(records, sizeof *records, count, file) != count) fail_errno("write", directory);
}

static void close_file(FILE *file) {
  if (fclose(file)) fail_errno("close", directory);
}

static void rename_file(const char *from, const char *to) {
  if (rename(path(from), path(to))) fail_errno("rename", from);
  renames++;
}

static void unlink_file(const char *name) {
  if (unlink(path(name))) fail_errno("unlink", name);
  unlinks++;
}

static uint32_t checksum(const Record *r) { return (uint32_t)(r->key * 0x9e3779b97f4a7c15u >> 32) ^ r->serial; }

static int by_key(const void *a, const void *b) {
  const Record *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static uint64_t make_input(uint32_t count) {
  FILE *file = open_file("input", "wb");
  uint64_t seed = 5, sum = 0;
  for (uint32_t i = 0; i < count; i++) {
    Record r = {next_random(&seed) >> (next_random(&seed) % 40), i, 0};
    r.check = checksum(&r);
    sum += r.key * 31 + r.serial;
    put_records(file, &r, 1);
  }
  close_file(file);
  return sum;
}

// Sorted runs of at most `per_run` records each; every run is written under a temporary name, then renamed.
static int make_runs(uint32_t per_run) {
  FILE *in = open_file("input", "rb");
  Record *records = malloc(sizeof *records * per_run);
  if (!records) fail("out of memory");
  int runs = 0;
  for (size_t got; (got = fread(records, sizeof *records, per_run, in)) > 0; runs++) {
    qsort(records, got, sizeof *records, by_key);
    FILE *out = open_file("run.tmp", "wb");
    put_records(out, records, got);
    close_file(out);
    rename_file("run.tmp", run_name(0, runs));
  }
  free(records);
  close_file(in);
  return runs;
}

static void merge(int generation, int first, int count, int into) {
  FILE *files[FAN_IN];
  Record heads[FAN_IN];
  int live[FAN_IN];
  for (int i = 0; i < count; i++) {
    files[i] = open_file(run_name(generation, first + i), "rb");
    live[i] = fread(&heads[i], sizeof heads[i], 1, files[i]) == 1;
  }
  FILE *out = open_file("merge.tmp", "wb");
  for (;;) {
    int least = -1;
    for (int i = 0; i < count; i++)
      if (live[i] && (least < 0 || by_key(&heads[i], &heads[least]) < 0)) least = i;
    if (least < 0) break;
    put_records(out, &heads[least], 1);
    live[least] = fread(&heads[least], sizeof heads[least], 1, files[least]) == 1;
  }
  close_file(out);
  for (int i = 0; i < count; i++) {
    close_file(files[i]);
    unlink_file(run_name(generation, first + i));
  }
  rename_file("merge.tmp", run_name(generation + 1, into));
}

static void merge_all(int runs) {
  int generation = 0;
  for (; runs > 1; generation++) {
    int made = 0;
    for (int first = 0; first < runs; first += FAN_IN, made++)
      merge(generation, first, runs - first < FAN_IN ? runs - first : FAN_IN, made);
    printf("generation %d: %d runs into %d\n", generation, runs, made);
    runs = made;
  }
  rename_file(run_name(generation, 0), "sorted");
}

static uint64_t check_order(uint32_t count, uint64_t sum) {
  FILE *file = open_file("sorted", "rb");
  Record r, before = {0, 0, 0};
  uint64_t hash = FNV_START, seen = 0, total = 0;
  while (fread(&r, sizeof r, 1, file) == 1) {
    if (seen++ && by_key(&before, &r) >= 0) fail("the result is not sorted");
    if (r.check != checksum(&r)) fail("a record is damaged");
    total += r.key * 31 + r.serial;
    hash = fnv(hash, &r, sizeof r);
    before = r;
  }
  close_file(file);
  if (seen != count || total != sum) fail("records were lost");
  return hash;
}

// Binary searches on the file itself, with lseek and read, for keys that are there.
static void check_by_seeking(uint32_t count, int searches) {
  int fd = open(path("sorted"), O_RDONLY);
  if (fd < 0) fail_errno("open", "sorted");
  opens++;
  uint64_t seed = 6;
  for (int i = 0; i < searches; i++) {
    Record wanted, r;
    if (pread(fd, &wanted, sizeof wanted, (off_t)(next_random(&seed) % count) * sizeof wanted) != sizeof wanted)
      fail_errno("pread", "sorted");
    uint32_t low = 0, high = count;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (lseek(fd, (off_t)middle * sizeof r, SEEK_SET) < 0 || read(fd, &r, sizeof r) != sizeof r)
        fail_errno("seek", "sorted");
      if (by_key(&r, &wanted) < 0) low = middle + 1;
      else high = middle;
    }
    if (pread(fd, &r, sizeof r, (off_t)low * sizeof r) != sizeof r || r.serial != wanted.serial)
      fail("a search found another record");
  }
  struct stat about;
  if (fstat(fd, &about) || about.st_size != (off_t)count * (off_t)sizeof(Record)) fail("the result has the wrong size");
  close(fd);
}

// Names in the directory, sorted: only the input and the result are left.
static void list(void) {
  DIR *open = opendir(directory);
  if (!open) fail_errno("opendir", directory);
  char names[8][64];
  int count = 0;
  for (struct dirent *entry; (entry = readdir(open));) {
    if (entry->d_name[0] == '.') continue;
    if (count == 8) fail("files were left behind");
    snprintf(names[count++], sizeof names[0], "%s", entry->d_name);
  }
  closedir(open);
  qsort(names, count, sizeof names[0], (int (*)(const void *, const void *))strcmp);
  for (int i = 0; i < count; i++) printf("left: %s\n", names[i]);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: extsort DIR [RECORDS] [RECORDS_PER_RUN]\n");
    return 2;
  }
  directory = argv[1];
  uint32_t count = arg_number(argc, argv, 2, 20000), per_run = arg_number(argc, argv, 3, 500);
  if (count == 0 || per_run == 0 || per_run > 1 << 24) fail("records and records per run must be at least 1");
  if (mkdir(directory, 0777) && errno != EEXIST) fail_errno("mkdir", directory);
  uint64_t sum = make_input(count);
  int runs = make_runs(per_run);
  printf("%u records in %d runs\n", count, runs);
  merge_all(runs);
  uint64_t hash = check_order(count, sum);
  check_by_seeking(count, 200);
  printf("sorted, hash %016llx\n", (unsigned long long)hash);
  printf("%llu opens, %llu renames, %llu unlinks\n", (unsigned long long)opens, (unsigned long long)renames,
         (unsigned long long)unlinks);
  list();
  unlink_file("input");
  unlink_file("sorted");
  if (rmdir(directory)) fail_errno("rmdir", directory);
  return 0;
}
