// Things with a state that take one step after another: searches, parsers, interpreters, coroutines, games.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: machines NAME|all [TURNS]
#include "prose.h"

// A search that never steps back in the text (Knuth, Morris, Pratt).
NOINLINE static int kmp_count(const char *pattern, int m, const char *in, int n) {
  int back[64], found = 0;
  back[0] = 0;
  for (int i = 1, k = 0; i < m; i++) {
    while (k && pattern[i] != pattern[k]) k = back[k - 1];
    if (pattern[i] == pattern[k]) k++;
    back[i] = k;
  }
  for (int i = 0, k = 0; i < n; i++) {
    while (k && (k == m || in[i] != pattern[k])) k = back[k - 1];
    if (in[i] == pattern[k]) k++;
    if (k == m) found++;
  }
  return found;
}
static void kmp(void) {
  static const char *const patterns[] = {"it was it was", "the the clocks", "a april, a"};
  for (int i = 0; i < 3; i++) mix((uint64_t)kmp_count(patterns[i], (int)strlen(patterns[i]), text, TEXT));
}

// A search from the end of the pattern, with leaps (Boyer, Moore, Horspool).
static void horspool(void) {
  static const char *const patterns[] = {"striking thirteen.", "cold day", "winston smith", "april, and", "was a bright cold day in april",
                                         "clocks were", "smith smith", "no such thing"};
  int skip[256];
  for (int p = 0; p < 8; p++) {
    const char *pattern = patterns[p];
    int m = (int)strlen(pattern), found = 0;
    for (int i = 0; i < 256; i++) skip[i] = m;
    for (int i = 0; i < m - 1; i++) skip[(uint8_t)pattern[i]] = m - 1 - i;
    for (int at = 0; at + m <= TEXT; at += skip[(uint8_t)text[at + m - 1]]) {
      int k = m - 1;
      while (k >= 0 && text[at + k] == pattern[k]) k--;
      if (k < 0) found++;
    }
    mix((uint64_t)found);
  }
}

// Regular expressions by simulating an NFA (Thompson): a compiler to states, then lists of states.
enum { R_SPLIT = 256, R_MATCH = 257, R_ANY = 258 };
static struct rstate { int c, out, out1, mark; } rs[128];
static int rcount, rmark;
static const char *rat;
static int r_state(int c, int out, int out1) {
  rs[rcount] = (struct rstate){c, out, out1, 0};
  return rcount++;
}
static int r_alternatives(int next);
// A piece of the pattern is compiled when the state that follows it is known: so the rest comes first, by recursion.
static const char *r_piece_end(const char *p) {
  if (*p == '(') {
    int depth = 0;
    do depth += (*p == '(') - (*p == ')'), p++; while (depth);
    return p;
  }
  return p + 1;
}
static int r_sequence(int next) {
  if (!*rat || *rat == '|' || *rat == ')') return next;
  const char *piece = rat, *end = r_piece_end(piece);
  char suffix = *end;
  int has = suffix == '*' || suffix == '+' || suffix == '?';
  rat = end + has;
  int rest = r_sequence(next), split = -1;
  const char *stop = rat;
  if (has) split = r_state(R_SPLIT, -1, rest);
  int to = has && suffix != '?' ? split : rest, start;
  if (*piece == '(') rat = piece + 1, start = r_alternatives(to);
  else start = r_state(*piece == '.' ? R_ANY : *piece, to, -1);
  rat = stop;
  if (!has) return start;
  rs[split].out = start;
  return suffix == '+' ? start : split;
}
static int r_alternatives(int next) {
  int start = r_sequence(next);
  while (*rat == '|') {
    rat++;
    int other = r_sequence(next);
    start = r_state(R_SPLIT, start, other);
  }
  return start;
}
static int r_add(int *list, int n, int s) {
  if (rs[s].mark == rmark) return n;
  rs[s].mark = rmark;
  if (rs[s].c == R_SPLIT) return r_add(list, r_add(list, n, rs[s].out), rs[s].out1);
  list[n] = s;
  return n + 1;
}
static void nfa(void) {
  static const char *const patterns[] = {"(it|a) (was|in)+ .*cold", "(s(t|m)(r|i)+|winst.?n )+(k|th)ing", "(a|the )*clocks (were )?(s|b)"};
  for (int p = 0; p < 3; p++) {
    int lists[2][128], *now = lists[0], *then = lists[1], n = 0, found = 0;
    rcount = 0, rmark = 0, rat = patterns[p];
    int match = r_state(R_MATCH, -1, -1), start = r_alternatives(match);
    const char *in = text + random_below(TEXT - 2000);
    for (int i = 0; i < 1500; i++) {
      if (i % 100 == 0) n = 0, rmark++;
      n = r_add(now, n, start);
      rmark++;
      int m = 0;
      for (int k = 0; k < n; k++) {
        const struct rstate *s = &rs[now[k]];
        if (s->c == R_MATCH) found++;
        else if (s->c == R_ANY || s->c == in[i]) m = r_add(then, m, s->out);
      }
      int *kept = now;
      now = then, then = kept, n = m;
    }
    mix((uint64_t)found);
  }
}

// A stack machine whose operations are functions called through a table.
struct machine { int *sp; const uint8_t *pc; int vars[8], stack[32]; int running; };
typedef void (*operation)(struct machine *);
static void op_halt(struct machine *m) { m->running = 0; }
static void op_push(struct machine *m) { *m->sp++ = *m->pc++; }
static void op_load(struct machine *m) { *m->sp++ = m->vars[*m->pc++]; }
static void op_store(struct machine *m) { m->vars[*m->pc++] = *--m->sp; }
static void op_add(struct machine *m) { m->sp--; m->sp[-1] = (int)((unsigned)m->sp[-1] + (unsigned)m->sp[0]); }
static void op_mul(struct machine *m) { m->sp--; m->sp[-1] = (int)((unsigned)m->sp[-1] * (unsigned)m->sp[0]); }
static void op_rem(struct machine *m) { m->sp--; m->sp[-1] = m->sp[0] ? (int)((unsigned)m->sp[-1] % (unsigned)m->sp[0]) : 0; }
static void op_less(struct machine *m) { m->sp--; m->sp[-1] = m->sp[-1] < m->sp[0]; }
static void op_jump(struct machine *m) { m->pc += (int8_t)*m->pc; }
static void op_unless(struct machine *m) { if (*--m->sp) m->pc++; else m->pc += (int8_t)*m->pc; }
static void op_dup(struct machine *m) { m->sp[0] = m->sp[-1]; m->sp++; }
static void op_xor(struct machine *m) { m->sp--; m->sp[-1] ^= m->sp[0]; }
static const operation operations[] = {op_halt, op_push, op_load, op_store, op_add, op_mul, op_rem, op_less, op_jump, op_unless, op_dup, op_xor};
enum { HALT, PUSH, LOAD, STORE, ADD, MUL, REM, LESS, JUMP, UNLESS, DUP, XOR };
static void threaded(void) {
  // for (i = 0; i < vars[0]; i++) for (j = 0; j < i; j++) sum = (sum * 3 + i % (j + 1)) ^ j
  static const uint8_t code[] = {
    PUSH, 0, STORE, 1,
    /* 4 */ LOAD, 1, LOAD, 0, LESS, UNLESS, 59 - 10, PUSH, 0, STORE, 2,
    /* 15 */ LOAD, 2, LOAD, 1, LESS, UNLESS, 50 - 21,
    /* 22 */ LOAD, 3, PUSH, 3, MUL, LOAD, 1, LOAD, 2, PUSH, 1, ADD, REM, ADD, LOAD, 2, XOR, STORE, 3,
    /* 41 */ LOAD, 2, PUSH, 1, ADD, STORE, 2, JUMP, (uint8_t)(15 - 49),
    /* 50 */ LOAD, 1, PUSH, 1, ADD, STORE, 1, JUMP, (uint8_t)(4 - 58),
    /* 59 */ LOAD, 3, DUP, ADD, HALT};
  struct machine m = {.pc = code, .running = 1};
  m.sp = m.stack;
  m.vars[0] = 70 + random_below(4);
  while (m.running) operations[*m.pc++](&m);
  mix((uint64_t)(uint32_t)m.vars[3]);
}

// Lambda calculus with numbers: closures and environments, evaluated by a switch that recurs.
enum { E_NUM, E_VAR, E_LAM, E_APP, E_ADD, E_SUB, E_MUL, E_IF, E_LESS };
struct expr { int kind, n; const struct expr *a, *b, *c; };
struct value { int number; const struct expr *body; const struct env *env; };
struct env { struct value value; const struct env *up; };
static struct env env_pool[20000];
static int env_used;
static struct expr expr_pool[64];
static int expr_used;
static const struct expr *E(int kind, int n, const struct expr *a, const struct expr *b, const struct expr *c) {
  expr_pool[expr_used] = (struct expr){kind, n, a, b, c};
  return &expr_pool[expr_used++];
}
static struct value evaluate(const struct expr *e, const struct env *env) {
  switch (e->kind) {
  case E_NUM: return (struct value){e->n, NULL, NULL};
  case E_VAR: for (int i = e->n; i; i--) env = env->up; return env->value;
  case E_LAM: return (struct value){0, e->a, env};
  case E_APP: {
    struct value f = evaluate(e->a, env), x = evaluate(e->b, env);
    if (env_used == 20000 || !f.body) fail("no room");
    struct env *inner = &env_pool[env_used++];
    inner->value = x, inner->up = f.env;
    return evaluate(f.body, inner);
  }
  case E_ADD: return (struct value){evaluate(e->a, env).number + evaluate(e->b, env).number, NULL, NULL};
  case E_SUB: return (struct value){evaluate(e->a, env).number - evaluate(e->b, env).number, NULL, NULL};
  case E_MUL: return (struct value){(int)((unsigned)evaluate(e->a, env).number * (unsigned)evaluate(e->b, env).number & 0xffff), NULL, NULL};
  case E_LESS: return (struct value){evaluate(e->a, env).number < evaluate(e->b, env).number, NULL, NULL};
  default: return evaluate(e->a, env).number ? evaluate(e->b, env) : evaluate(e->c, env);
  }
}
static void closures(void) {
  static const struct expr *program;
  if (!program) {
    // f = \self. \n. if n < 2 then n * 3 + 1 else self self (n - 1) + self self (n - 2), called as f f n
#define V(n) E(E_VAR, n, NULL, NULL, NULL)
#define N(n) E(E_NUM, n, NULL, NULL, NULL)
#define APP(f, x) E(E_APP, 0, f, x, NULL)
    const struct expr *one = APP(APP(V(1), V(1)), E(E_SUB, 0, V(0), N(1), NULL));
    const struct expr *two = APP(APP(V(1), V(1)), E(E_SUB, 0, V(0), N(2), NULL));
    const struct expr *base = E(E_ADD, 0, E(E_MUL, 0, V(0), N(3), NULL), N(1), NULL);
    const struct expr *body = E(E_IF, 0, E(E_LESS, 0, V(0), N(2), NULL), base, E(E_ADD, 0, one, two, NULL));
    const struct expr *f = E(E_LAM, 0, E(E_LAM, 0, body, NULL, NULL), NULL, NULL);
    program = APP(E(E_LAM, 0, APP(APP(V(0), V(0)), V(1)), NULL, NULL), f);
#undef V
#undef N
#undef APP
  }
  env_used = 0;
  struct env top = {{15 + random_below(2), NULL, NULL}, NULL};
  mix((uint64_t)evaluate(program, &top).number);
}

// A calculator: text of sums made, then parsed by recursive descent.
static const char *calc_at;
static int64_t calc_sum(void);
static int64_t calc_atom(void) {
  while (*calc_at == ' ') calc_at++;
  if (*calc_at == '(') {
    calc_at++;
    int64_t value = calc_sum();
    if (*calc_at != ')') fail("no )");
    calc_at++;
    return value;
  }
  if (*calc_at == '-') {
    calc_at++;
    return (int64_t)(0 - (uint64_t)calc_atom());
  }
  int64_t value = 0;
  while (*calc_at >= '0' && *calc_at <= '9') value = value * 10 + (*calc_at++ - '0');
  return value;
}
static int64_t calc_product(void) {
  int64_t value = calc_atom();
  for (;;) {
    while (*calc_at == ' ') calc_at++;
    char op = *calc_at;
    if (op != '*' && op != '/' && op != '%') return value;
    calc_at++;
    int64_t with = calc_atom();
    if (op == '*') value = (int64_t)((uint64_t)value * (uint64_t)with) % 1000003;
    else if (with == 0 || with == -1) value = 0;
    else value = op == '/' ? value / with : value % with;
  }
}
static int64_t calc_sum(void) {
  int64_t value = calc_product();
  while (*calc_at == '+' || *calc_at == '-') {
    char op = *calc_at++;
    int64_t with = calc_product();
    value = (int64_t)(op == '+' ? (uint64_t)value + (uint64_t)with : (uint64_t)value - (uint64_t)with);
  }
  return value;
}
static char *calc_write(char *to, int depth) {
  if (!depth || random_below(8) == 0) {
    int n = random_below(1000);
    if (n > 99) *to++ = (char)('0' + n / 100);
    *to++ = (char)('0' + n / 10 % 10), *to++ = (char)('0' + n % 10);
    return to;
  }
  *to++ = '(';
  to = calc_write(to, depth - 1);
  *to++ = ' ', *to++ = "+-*/%+-*"[random_below(8)], *to++ = ' ';
  to = calc_write(to, depth - 1);
  *to++ = ')';
  return to;
}
static void calculator(void) {
  static char sums[200000];
  static int length;
  if (!length) {
    char *to = sums;
    for (int i = 0; i < 150; i++) to = calc_write(to, 6), *to++ = ';';
    length = (int)(to - sums);
  }
  for (calc_at = sums; calc_at < sums + length; calc_at++) mix((uint64_t)calc_sum());
}

// Lines of CSV written by snprintf, cut and read by strchr and strtol.
static void csv(void) {
  static char sheet[16384];
  int length = 0;
  for (int i = 0; i < 400; i++) {
    unsigned big = (unsigned)random_below(1000000);
    int below = -random_below(500);
    length += snprintf(sheet + length, sizeof sheet - (size_t)length, "%d,%s,%u,%d\n", i, i % 3 ? "name" : "other", big, below);
  }
  long sums[3] = {0, 0, 0};
  for (char *line = sheet; *line;) {
    char *end = strchr(line, '\n');
    *end = 0;
    int column = 0;
    for (char *field = line; field;) {
      char *comma = strchr(field, ',');
      if (comma) *comma++ = 0;
      if (column != 1) sums[column ? column - 1 : 0] += strtol(field, NULL, 10);
      else sums[0] += !strcmp(field, "name");
      column++, field = comma;
    }
    line = end + 1;
  }
  for (int i = 0; i < 3; i++) mix((uint64_t)(int64_t)sums[i]);
}

// Coroutines as Duff's device has them: a producer and a packer that take turns, a character at a time.
struct co { int line, i, n, c; };
#define CO_BEGIN(s) switch ((s)->line) { case 0:
#define CO_YIELD(s, v) do { (s)->line = __LINE__; return v; case __LINE__:; } while (0)
#define CO_END } return -1
NOINLINE static int co_expand(struct co *s) {  // each letter none to three times, and a line's end after a full stop
  CO_BEGIN(s)
  for (s->i = 0; s->i < TEXT; s->i++) {
    s->n = noise[s->i] & 3;
    s->c = text[s->i];
    while (s->n-- > 0) CO_YIELD(s, s->c);
    if (s->c == '.') CO_YIELD(s, '\n');
  }
  CO_END;
}
// Runs as their length and their letter, blanks made visible.
NOINLINE static int co_squeeze(struct co *s, struct co *from) {
  CO_BEGIN(s)
  s->i = co_expand(from);
  while (s->i >= 0) {
    s->n = 1, s->c = s->i;
    while ((s->i = co_expand(from)) == s->c) s->n++;
    if (s->n > 1) CO_YIELD(s, '0' + s->n);
    CO_YIELD(s, s->c == ' ' ? '_' : s->c);
  }
  CO_END;
}
static void coroutine(void) {
  struct co a = {0, 0, 0, 0}, b = {0, 0, 0, 0};
  uint32_t sum = (uint32_t)hash;
  for (int c; (c = co_squeeze(&b, &a)) >= 0;) sum = sum * 33 + (uint32_t)c;
  mix(sum);
}

// Tic-tac-toe by alpha-beta.
static int8_t board[9];
static int ttt_seen;
static int ttt_wins(int who) {
  static const uint8_t lines[8][3] = {{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {0, 3, 6}, {1, 4, 7}, {2, 5, 8}, {0, 4, 8}, {2, 4, 6}};
  for (int i = 0; i < 8; i++) if (board[lines[i][0]] == who && board[lines[i][1]] == who && board[lines[i][2]] == who) return 1;
  return 0;
}
static int ttt_search(int who, int alpha, int beta, int left) {
  ttt_seen++;
  if (ttt_wins(-who)) return -1 - left;
  if (!left) return 0;
  for (int i = 0; i < 9; i++) {
    if (board[i]) continue;
    board[i] = (int8_t)who;
    int score = -ttt_search(-who, -beta, -alpha, left - 1);
    board[i] = 0;
    if (score > alpha) alpha = score;
    if (alpha >= beta) break;
  }
  return alpha;
}
static void tictactoe(void) {
  memset(board, 0, sizeof board);
  ttt_seen = 0;
  board[random_below(9)] = 1;
  mix((uint64_t)(20 + ttt_search(-1, -20, 20, 8))), mix((uint64_t)ttt_seen);
}

// The longest common subsequence of two texts, with the way back through a full table.
static void subsequence(void) {
  enum { N = 250 };
  static uint16_t best[N + 1][N + 1];
  const char *a = text + random_below(TEXT - N), *b = text + random_below(TEXT - N);
  for (int i = 1; i <= N; i++)
    for (int j = 1; j <= N; j++)
      best[i][j] = a[i - 1] == b[j - 1] ? (uint16_t)(best[i - 1][j - 1] + 1) : best[i - 1][j] > best[i][j - 1] ? best[i - 1][j] : best[i][j - 1];
  uint32_t sum = 0;
  for (int i = N, j = N; i && j;) {
    if (a[i - 1] == b[j - 1]) sum = sum * 31 + (uint8_t)a[--i], j--;
    else if (best[i - 1][j] >= best[i][j - 1]) i--;
    else j--;
  }
  mix(best[N][N]), mix(sum);
}

// The towers of Hanoi, with towers.
static struct { int disk[16], height; } tower[3];
static int hanoi_sum;
NOINLINE static void hanoi_move(int n, int from, int to, int by) {
  if (!n) return;
  hanoi_move(n - 1, from, by, to);
  int disk = tower[from].disk[--tower[from].height];
  tower[to].disk[tower[to].height++] = disk;
  hanoi_sum += disk * (from - to);
  hanoi_move(n - 1, by, to, from);
}
static void hanoi(void) {
  for (int i = 0; i < 3; i++) tower[i].height = 0;
  for (int i = 15; i > 0; i--) tower[0].disk[tower[0].height++] = i;
  hanoi_sum = 0;
  hanoi_move(15, 0, 2, 1);
  mix((uint64_t)hanoi_sum), mix((uint64_t)tower[2].height);
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"kmp", kmp}, {"horspool", horspool}, {"nfa", nfa}, {"threaded", threaded}, {"closures", closures}, {"calculator", calculator},
  {"csv", csv}, {"coroutine", coroutine}, {"tictactoe", tictactoe}, {"subsequence", subsequence}, {"hanoi", hanoi},
};

#include "tasks.h"
