// Sudoku by backtracking over candidate sets, choosing the cell with the fewest: one recursion level per open cell (up
// to 64 deep), arrays in every frame. Puzzles are hard ones with digits, rows and columns shuffled from a seed, so the
// search trees differ. Every solution is checked. usage: sudoku [PUZZLES]
#include "guest.h"

typedef struct { uint16_t row[9], column[9], box[9]; uint8_t cell[81]; uint64_t nodes; } Board;

static const char *const PUZZLES[] = {
  "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..",
  "..............3.85..1.2.......5.7.....4...1...9.......5......73..2.1........4...9",
  "1....7.9..3..2...8..96..5....53..9...1..8...26....4...3......1..4......7..7...3..",
  "..............1.9.5...7......8..4.....6...2..........31....5....4.9..........8...",
  "4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......",
};
#define HOW_MANY (sizeof PUZZLES / sizeof PUZZLES[0])

static int box_of(int at) { return at / 27 * 3 + at % 9 / 3; }

static void place(Board *b, int at, int digit) {
  uint16_t bit = 1u << digit;
  b->cell[at] = digit;
  b->row[at / 9] |= bit;
  b->column[at % 9] |= bit;
  b->box[box_of(at)] |= bit;
}

static void lift(Board *b, int at) {
  uint16_t keep = ~(1u << b->cell[at]);
  b->cell[at] = 0;
  b->row[at / 9] &= keep;
  b->column[at % 9] &= keep;
  b->box[box_of(at)] &= keep;
}

static int solve(Board *b) {
  int best = -1, fewest = 10;
  uint16_t open = 0;
  b->nodes++;
  for (int at = 0; at < 81 && fewest > 1; at++) {
    if (b->cell[at]) continue;
    uint16_t free = 0x3fe & ~(b->row[at / 9] | b->column[at % 9] | b->box[box_of(at)]);
    int count = __builtin_popcount(free);
    if (count < fewest) { fewest = count; best = at; open = free; }
  }
  if (best < 0) return 1;
  for (int digit = 1; digit <= 9; digit++) {
    if (!(open >> digit & 1)) continue;
    place(b, best, digit);
    if (solve(b)) return 1;
    lift(b, best);
  }
  return 0;
}

static void shuffle(uint8_t *items, int count, uint64_t *seed) {
  for (int i = count - 1; i > 0; i--) {
    int j = next_random(seed) % (i + 1);
    uint8_t swap = items[i];
    items[i] = items[j];
    items[j] = swap;
  }
}

// A permutation of nine lines that keeps the three bands together.
static void line_order(uint8_t *order, uint64_t *seed) {
  uint8_t bands[3] = {0, 1, 2};
  shuffle(bands, 3, seed);
  for (int band = 0; band < 3; band++) {
    uint8_t lines[3] = {0, 1, 2};
    shuffle(lines, 3, seed);
    for (int i = 0; i < 3; i++) order[band * 3 + i] = bands[band] * 3 + lines[i];
  }
}

static void make_puzzle(Board *b, const char *from, uint64_t *seed) {
  uint8_t rows[9], columns[9], digits[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  line_order(rows, seed);
  line_order(columns, seed);
  shuffle(digits, 9, seed);
  memset(b, 0, sizeof *b);
  for (int at = 0; at < 81; at++) {
    char c = from[rows[at / 9] * 9 + columns[at % 9]];
    if (c != '.') place(b, at, digits[c - '1']);
  }
}

static void check(const Board *b) {
  for (int i = 0; i < 9; i++)
    if (b->row[i] != 0x3fe || b->column[i] != 0x3fe || b->box[i] != 0x3fe) fail("a solution breaks the rules");
}

int main(int argc, char **argv) {
  uint64_t count = arg_number(argc, argv, 1, 20), seed = 9, nodes = 0, hash = FNV_START;
  Board board;
  for (uint64_t i = 0; i < count; i++) {
    make_puzzle(&board, PUZZLES[i % HOW_MANY], &seed);
    if (!solve(&board)) fail("no solution");
    check(&board);
    nodes += board.nodes;
    hash = fnv(hash, board.cell, 81);
    if (i < 5 || i + 1 == count) {
      printf("%llu: ", (unsigned long long)i);
      for (int at = 0; at < 81; at++) putchar('0' + board.cell[at]);
      printf(" in %llu nodes\n", (unsigned long long)board.nodes);
    }
  }
  printf("solved %llu puzzles, %llu nodes, hash %016llx\n", (unsigned long long)count, (unsigned long long)nodes,
         (unsigned long long)hash);
  return 0;
}
