// A recursive DPLL SAT solver (unit propagation by clause counters, branching on the most frequent literal) on random
// 3-SAT near the hard ratio of 4.26 clauses a variable. One recursion level per decision; pointer-light, branchy.
// usage: sat [INSTANCES] [VARIABLES]
#include "guest.h"

#define MAX_VARIABLES 400
#define MAX_CLAUSES (MAX_VARIABLES * 5)
#define LITERALS (2 * MAX_VARIABLES)

static int variables, clauses;
static int clause[MAX_CLAUSES][3];                 // literal: 2 * variable + (1 when negated)
static int uses[LITERALS][MAX_CLAUSES], use_count[LITERALS];
static int8_t value[MAX_VARIABLES];                // -1 unset, 0, 1
static int satisfied[MAX_CLAUSES], open_literals[MAX_CLAUSES];
static int trail[MAX_VARIABLES], trail_length;
static uint64_t decisions, propagations;

static void generate(uint64_t *seed) {
  clauses = variables * 426 / 100;
  memset(use_count, 0, sizeof use_count);
  for (int c = 0; c < clauses; c++) {
    int chosen[3];
    for (int k = 0; k < 3;) {
      chosen[k] = next_random(seed) % variables;
      int fresh = 1;
      for (int j = 0; j < k; j++) fresh &= chosen[j] != chosen[k];
      k += fresh;
    }
    for (int k = 0; k < 3; k++) {
      int literal = 2 * chosen[k] + (next_random(seed) & 1);
      clause[c][k] = literal;
      uses[literal][use_count[literal]++] = c;
    }
    satisfied[c] = 0;
    open_literals[c] = 3;
  }
  memset(value, -1, sizeof value);
  trail_length = 0;
}

// Makes `literal` true. Returns 0 when a clause became empty; the counters stay consistent either way.
static int assign(int literal) {
  int good = 1;
  value[literal >> 1] = !(literal & 1);
  trail[trail_length++] = literal;
  for (int i = 0; i < use_count[literal]; i++) satisfied[uses[literal][i]]++;
  for (int i = 0; i < use_count[literal ^ 1]; i++) {
    int c = uses[literal ^ 1][i];
    if (--open_literals[c] == 0 && !satisfied[c]) good = 0;
  }
  return good;
}

static void undo_to(int length) {
  while (trail_length > length) {
    int literal = trail[--trail_length];
    for (int i = 0; i < use_count[literal]; i++) satisfied[uses[literal][i]]--;
    for (int i = 0; i < use_count[literal ^ 1]; i++) open_literals[uses[literal ^ 1][i]]++;
    value[literal >> 1] = -1;
  }
}

static int propagate(void) {
  for (int changed = 1; changed;) {
    changed = 0;
    for (int c = 0; c < clauses; c++) {
      if (satisfied[c] || open_literals[c] != 1) continue;
      for (int k = 0; k < 3; k++) {
        if (value[clause[c][k] >> 1] >= 0) continue;
        propagations++;
        if (!assign(clause[c][k])) return 0;
        changed = 1;
        break;
      }
    }
  }
  return 1;
}

// The literal that occurs most in open clauses, short ones counting more; -1 when every clause is satisfied.
static int choose(void) {
  static int weight[LITERALS];
  memset(weight, 0, sizeof(int) * 2 * variables);
  int best = -1;
  for (int c = 0; c < clauses; c++) {
    if (satisfied[c]) continue;
    for (int k = 0; k < 3; k++) {
      int literal = clause[c][k];
      if (value[literal >> 1] >= 0) continue;
      weight[literal] += open_literals[c] == 2 ? 5 : 1;
      if (best < 0 || weight[literal] > weight[best]) best = literal;
    }
  }
  return best;
}

static int search(void) {
  if (!propagate()) return 0;
  int literal = choose(), mark = trail_length;
  if (literal < 0) return 1;
  decisions++;
  for (int flip = 0; flip < 2; flip++) {
    if (assign(literal ^ flip) && search()) return 1;
    undo_to(mark);
  }
  return 0;
}

static void check_model(void) {
  for (int c = 0; c < clauses; c++) {
    int holds = 0;
    for (int k = 0; k < 3; k++) holds |= value[clause[c][k] >> 1] == !(clause[c][k] & 1);
    if (!holds) fail("the model does not satisfy a clause");
  }
}

int main(int argc, char **argv) {
  uint64_t instances = arg_number(argc, argv, 1, 10), seed = 3, yes = 0, hash = FNV_START;
  variables = arg_number(argc, argv, 2, 110);
  if (variables < 3 || variables > MAX_VARIABLES) fail("variables must be 3 to 400");
  for (uint64_t i = 0; i < instances; i++) {
    generate(&seed);
    uint64_t before = decisions;
    int found = search();
    if (found) check_model();
    yes += found;
    hash = fnv(hash, value, variables);
    printf("%llu: %s after %llu decisions\n", (unsigned long long)i, found ? "sat" : "unsat",
           (unsigned long long)(decisions - before));
  }
  printf("%llu of %llu satisfiable, %llu decisions, %llu propagations, hash %016llx\n", (unsigned long long)yes,
         (unsigned long long)instances, (unsigned long long)decisions, (unsigned long long)propagations,
         (unsigned long long)hash);
  return 0;
}
