// Reads stdin to its end; counts lines, words and bytes; prints the words by frequency. With a number, also prints the
// lines in sorted order that many times over. Blocking reads, then output of the size of the input.
// usage: words [TIMES] < TEXT
#include "guest.h"

typedef struct { const char *start; uint32_t length, count; } Word;
typedef struct { const char *start; uint32_t length; } Line;

static char *text;
static size_t size;
static Word *slots;
static size_t mask = 1023, used;

static void read_stdin(void) {
  size_t room = 0;
  for (;;) {
    if (room - size < 4096) {
      room = room * 2 + 8192;
      text = realloc(text, room);
      if (!text) fail("out of memory");
    }
    size_t got = fread(text + size, 1, 4096, stdin);
    size += got;
    if (got == 0) break;
  }
  if (ferror(stdin)) fail("cannot read stdin");
}

static Word *slot_of(Word *in, size_t in_mask, const char *start, uint32_t length) {
  for (size_t at = fnv(FNV_START, start, length);; at++) {
    Word *slot = &in[at & in_mask];
    if (!slot->start || (slot->length == length && !memcmp(slot->start, start, length))) return slot;
  }
}

static void grow(void) {
  size_t bigger_mask = mask * 2 + 1;
  Word *bigger = calloc(bigger_mask + 1, sizeof *bigger);
  if (!bigger) fail("out of memory");
  for (size_t i = 0; i <= mask; i++)
    if (slots[i].start) *slot_of(bigger, bigger_mask, slots[i].start, slots[i].length) = slots[i];
  free(slots);
  slots = bigger;
  mask = bigger_mask;
}

static void count_word(const char *start, uint32_t length) {
  if (used * 2 > mask) grow();
  Word *slot = slot_of(slots, mask, start, length);
  if (!slot->start) { *slot = (Word){start, length, 0}; used++; }
  slot->count++;
}

static int compare_text(const char *a, uint32_t a_length, const char *b, uint32_t b_length) {
  int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
  return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

static int by_frequency(const void *a, const void *b) {
  const Word *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return compare_text(x->start, x->length, y->start, y->length);
}

static int by_text(const void *a, const void *b) {
  const Line *x = a, *y = b;
  return compare_text(x->start, x->length, y->start, y->length);
}

static int is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

static uint64_t count_words(void) {
  uint64_t words = 0;
  for (size_t at = 0; at < size;) {
    if (!is_letter(text[at])) { at++; continue; }
    size_t start = at;
    while (at < size && is_letter(text[at])) at++;
    count_word(text + start, (uint32_t)(at - start));
    words++;
  }
  return words;
}

static uint64_t split_lines(Line **lines) {
  uint64_t count = 0, room = 0;
  for (size_t at = 0; at < size;) {
    if (count == room) {
      room = room * 2 + 256;
      *lines = realloc(*lines, room * sizeof **lines);
      if (!*lines) fail("out of memory");
    }
    char *end = memchr(text + at, '\n', size - at);
    size_t stop = end ? (size_t)(end - text) : size;
    (*lines)[count++] = (Line){text + at, (uint32_t)(stop - at)};
    at = stop + 1;
  }
  return count;
}

int main(int argc, char **argv) {
  uint64_t times = arg_number(argc, argv, 1, 1);
  slots = calloc(mask + 1, sizeof *slots);
  if (!slots) fail("out of memory");
  read_stdin();
  uint64_t words = count_words();
  Line *lines = 0;
  uint64_t line_count = split_lines(&lines);
  size_t kept = 0;
  for (size_t i = 0; i <= mask; i++)
    if (slots[i].start) slots[kept++] = slots[i];
  qsort(slots, kept, sizeof *slots, by_frequency);
  printf("%llu lines, %llu words (%zu different), %zu bytes\n", (unsigned long long)line_count, (unsigned long long)words,
         kept, size);
  for (size_t i = 0; i < kept && i < 10; i++) printf("%7u %.*s\n", slots[i].count, (int)slots[i].length, slots[i].start);
  qsort(lines, line_count, sizeof *lines, by_text);
  for (uint64_t t = 0; t < times; t++)
    for (uint64_t i = 0; i < line_count; i++) printf("%.*s\n", (int)lines[i].length, lines[i].start);
  return fflush(stdout) == 0 ? 0 : 1;
}
