// What programs do all day, in the small: interpreters, parsers, matchers, games, tables of sums, text made of numbers.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: assorted NAME|all [TURNS]
#include "data.h"

static void make_data(void) {
  static const char *const parts[] = {"the ", "quick ", "brown ", "fox ", "jumps ", "over ", "lazy ", "dog ", "and ", "runs "};
  make_text(4711, parts, 10);
}

// All orders of eight things (Heap's algorithm): a loop that calls itself on each pass, with next to nothing else.
static int things[8], orders;
NOINLINE static void permute(int n) {
  if (n == 1) {
    orders += things[0];
    return;
  }
  for (int i = 0; i < n; i++) {
    permute(n - 1);
    int with = n & 1 ? 0 : i, kept = things[with];
    things[with] = things[n - 1];
    things[n - 1] = kept;
  }
}
static void orders_of_eight(void) {
  for (int i = 0; i < 8; i++) things[i] = i;
  orders = 0;
  permute(8);
  mix((uint64_t)orders);
}

// The number of turns that pancakes need (fannkuch): short loops around a swap.
static void pancakes(void) {
  int stack[7], turned[7], count[7], most = 0, n = 7;
  for (int i = 0; i < n; i++) stack[i] = i;
  for (int r = n;;) {
    for (; r != 1; r--) count[r - 1] = r;
    memcpy(turned, stack, sizeof stack);
    int turns = 0;
    for (int top; (top = turned[0]) != 0; turns++) {
      for (int low = 0, high = top; low < high; low++, high--) {
        int kept = turned[low];
        turned[low] = turned[high];
        turned[high] = kept;
      }
    }
    if (turns > most) most = turns;
    for (;; r++) {
      if (r == n) {
        mix((uint64_t)most);
        return;
      }
      int first = stack[0];
      for (int i = 0; i < r; i++) stack[i] = stack[i + 1];
      stack[r] = first;
      if (--count[r] > 0) break;
    }
  }
}

// An interpreter of brainfuck, with its jumps worked out before.
static void brain(void) {
  static const char code[] = "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++.>>.<-.<.+++.------.--------.>>+.>++.>"
                             "++++++++++[>++++++++++[>++++++++++[>+++++<-]<-]<-]";
  static uint8_t tape[300];
  static int partner[sizeof code];
  int open[16], depth = 0;
  memset(tape, 0, sizeof tape);
  for (int i = 0; code[i]; i++) {
    if (code[i] == '[') open[depth++] = i;
    if (code[i] != ']') continue;
    partner[i] = open[--depth];
    partner[partner[i]] = i;
  }
  int at = 0;
  for (int i = 0; code[i]; i++) {
    switch (code[i]) {
    case '>': at++; break;
    case '<': at--; break;
    case '+': tape[at]++; break;
    case '-': tape[at]--; break;
    case '.': mix(tape[at]); break;
    case '[': if (!tape[at]) i = partner[i]; break;
    case ']': if (tape[at]) i = partner[i]; break;
    }
  }
  mix(tape[0]);
}

// An interpreter whose calls are calls of its own: Fibonacci's numbers by recursion.
enum { RETURN, CONSTANT, ARGUMENT, PLUS, MINUS, BELOW, UNLESS, CALL };
static int values[128];
NOINLINE static int execute(const uint8_t *code, int frame) {
  int top = frame + 4, at = 0;
  for (;;) {
    switch (code[at++]) {
    case RETURN: return values[top - 1];
    case CONSTANT: values[top++] = code[at++]; break;
    case ARGUMENT: values[top++] = values[frame + code[at++]]; break;
    case PLUS: top--, values[top - 1] += values[top]; break;
    case MINUS: top--, values[top - 1] -= values[top]; break;
    case BELOW: top--, values[top - 1] = values[top - 1] < values[top]; break;
    case UNLESS: at = values[--top] ? at + 1 : code[at]; break;
    case CALL: top--, values[top] = execute(code, top), top++; break;
    }
  }
}
static void bytecode(void) {
  static const uint8_t fibonacci[] = {ARGUMENT, 0, CONSTANT, 2, BELOW, UNLESS, 10, ARGUMENT, 0, RETURN,
                                      ARGUMENT, 0, CONSTANT, 1, MINUS, CALL, ARGUMENT, 0, CONSTANT, 2, MINUS, CALL, PLUS, RETURN};
  values[0] = 13;
  mix((uint64_t)execute(fibonacci, 0));
}

// A tree of sums and products, worked out by recursion.
struct node {
  int kind, value;
  struct node *left, *right;
};
static struct node nodes[2048];
static int used;
static struct node *grow(int depth) {
  struct node *node = &nodes[used++];
  *node = (struct node){depth ? 1 + random_below(5) : 0, random_below(100), NULL, NULL};
  if (depth) node->left = grow(depth - 1), node->right = grow(depth - 1);
  return node;
}
NOINLINE static int work_out(const struct node *node) {
  switch (node->kind) {
  case 0: return node->value;
  case 1: return work_out(node->left) + work_out(node->right);
  case 2: return work_out(node->left) - work_out(node->right);
  case 3: return (int)((unsigned)work_out(node->left) * (unsigned)work_out(node->right) % 65521u);
  case 4: return work_out(node->left) < work_out(node->right) ? 1 : 2;
  default: return work_out(node->left) ^ work_out(node->right);
  }
}
static void formula(void) {
  if (!used) grow(9);
  mix((uint64_t)work_out(nodes));
}

// A scanner of JSON: a switch in a loop, with short loops in it.
static void json(void) {
  static char document[4096];
  static int length;
  if (!length) {
    for (int k = 0; k < 100; k++) length += sprintf(document + length, "{\"k%d\":[%d,true,\"s%d\"]},", k, k * 77, k);
  }
  int depth = 0, strings = 0;
  long sum = 0;
  for (int i = 0; i < length;) {
    switch (document[i]) {
    case '{': case '[': depth++, i++; break;
    case '}': case ']': depth--, i++; break;
    case '"':
      for (i++; document[i] != '"'; i++) if (document[i] == '\\') i++;
      i++, strings++;
      break;
    case 't': i += 4; break;
    default:
      if (document[i] < '0' || document[i] > '9') {
        i++;
        break;
      }
      long number = 0;
      while (document[i] >= '0' && document[i] <= '9') number = number * 10 + document[i++] - '0';
      sum += number;
    }
  }
  mix((uint64_t)(depth + strings + sum));
}

// A matcher of patterns by trial (Pike, in Kernighan and Pike 1999): two functions that call each other.
static int match_here(const char *pattern, const char *at);
static int match_star(int c, const char *pattern, const char *at) {
  do {
    if (match_here(pattern, at)) return 1;
  } while (*at && (*at++ == c || c == '.'));
  return 0;
}
static int match_here(const char *pattern, const char *at) {
  if (!pattern[0]) return 1;
  if (pattern[1] == '*') return match_star(pattern[0], pattern + 2, at);
  if (*at && (pattern[0] == '.' || pattern[0] == *at)) return match_here(pattern + 1, at + 1);
  return 0;
}
static void matcher(void) {
  int found = 0;
  for (int i = 0; i < TEXT - 200; i++) found += match_here("qu.*k br", text + i);
  for (int i = 0; i < 150; i++) found += match_here("l.zy .*x runs fish", text + TEXT - 200 + i);
  mix((uint64_t)found);
}

// The most that fits into a knapsack: sums in a table, kept if they are greater.
static void knapsack(void) {
  static int best[5001];
  memset(best, 0, sizeof best);
  for (int i = 0; i < 20; i++) {
    int weight = random_below(90) + 1, value = random_below(100);
    for (int j = 5000; j >= weight; j--) {
      int with = best[j - weight] + value;
      if (with > best[j]) best[j] = with;
    }
  }
  mix((uint64_t)best[5000]);
}

// How many letters to change between two texts: minima of three neighbours.
static void distances(void) {
  static int row[301];
  for (int j = 0; j <= 300; j++) row[j] = j;
  for (int i = 1; i <= 300; i++) {
    int corner = row[0];
    row[0] = i;
    for (int j = 1; j <= 300; j++) {
      int above = row[j], least = corner + (text[i] != text[3000 + j]);
      if (above + 1 < least) least = above + 1;
      if (row[j - 1] + 1 < least) least = row[j - 1] + 1;
      row[j] = least;
      corner = above;
    }
  }
  mix((uint64_t)row[300]);
}

// A treap of random keys: recursion with rotations, then searches down the tree.
struct leaf {
  int key;
  uint32_t priority;
  struct leaf *left, *right;
};
static struct leaf leaves[4096];
static int planted;
static struct leaf *plant(struct leaf *tree, int key) {
  if (!tree) {
    tree = &leaves[planted++];
    *tree = (struct leaf){key, (uint32_t)next_random(&seed), NULL, NULL};
  } else if (key < tree->key) {
    struct leaf *left = tree->left = plant(tree->left, key);
    if (left->priority < tree->priority) tree->left = left->right, left->right = tree, tree = left;
  } else if (key > tree->key) {
    struct leaf *right = tree->right = plant(tree->right, key);
    if (right->priority < tree->priority) tree->right = right->left, right->left = tree, tree = right;
  }
  return tree;
}
static void treap(void) {
  struct leaf *tree = NULL;
  planted = 0;
  for (int i = 0; i < 3000; i++) tree = plant(tree, random_below(1 << 20));
  int steps = 0;
  for (int i = 0; i < 6000; i++) {
    int key = random_below(1 << 20);
    for (struct leaf *at = tree; at && at->key != key; steps++) at = key < at->key ? at->left : at->right;
  }
  mix((uint64_t)steps);
}

// Memory taken and given back: small pieces of many sizes, as programs do.
static void pieces(void) {
  static char *piece[200];
  for (int i = 0; i < 4000; i++) {
    int k = random_below(200), size = random_below(300) + 1;
    free(piece[k]);
    piece[k] = malloc((size_t)size);
    if (!piece[k]) fail("out of memory");
    piece[k][size - 1] = (char)size;
    mix((uint8_t)piece[k][size - 1]);
  }
}

// Text made of numbers, by the C library.
static void print(void) {
  char line[100];
  for (int i = 0; i < 200; i++) {
    int length = snprintf(line, sizeof line, "%d %x %s %c %08ld", i, i * 77, "abc", 'x', (long)i * i);
    hash = fnv(hash, line, (size_t)length);
  }
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"permute", orders_of_eight}, {"pancakes", pancakes}, {"brain", brain}, {"bytecode", bytecode}, {"formula", formula}, {"json", json},
  {"matcher", matcher}, {"knapsack", knapsack}, {"distances", distances}, {"treap", treap}, {"pieces", pieces}, {"print", print},
};

#include "tasks.h"
