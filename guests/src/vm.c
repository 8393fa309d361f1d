// A small stack machine whose every instruction is a call through a function pointer, patched while it runs: generic
// instructions replace their own handler by a specialised one (quickening), calls go through a table of native
// functions that the program changes. The guest's guest counts primes, Collatz steps and recursive Fibonacci numbers.
// usage: vm [N]
#include "guest.h"

typedef struct Machine Machine;
typedef struct Code Code;
typedef const Code *(*Handler)(Machine *, Code *);
typedef int64_t (*Native)(Machine *, int64_t, int64_t);

struct Code { Handler run; int64_t operand; };
struct Machine {
  int64_t stack[4096], *top;
  Code *returns[1024]; int depth;
  int64_t cells[16];
  Native natives[8];
  Code *program;
  uint64_t executed, patched;
};

#define OP(name) static const Code *name(Machine *m, Code *at)
OP(op_push) { *++m->top = at->operand; return at + 1; }
OP(op_load) { *++m->top = m->cells[at->operand]; return at + 1; }
OP(op_store) { m->cells[at->operand] = *m->top--; return at + 1; }
OP(op_add) { m->top--; m->top[0] += m->top[1]; return at + 1; }
OP(op_sub) { m->top--; m->top[0] -= m->top[1]; return at + 1; }
OP(op_less) { m->top--; m->top[0] = m->top[0] < m->top[1]; return at + 1; }
OP(op_dup) { m->top++; m->top[0] = m->top[-1]; return at + 1; }
OP(op_swap) { int64_t t = m->top[0]; m->top[0] = m->top[-1]; m->top[-1] = t; return at + 1; }
OP(op_jump) { return m->program + at->operand; }
OP(op_jump_zero) { return *m->top-- ? at + 1 : m->program + at->operand; }
OP(op_call) { m->returns[m->depth++] = at + 1; return m->program + at->operand; }
OP(op_return) { (void)at; return m->returns[--m->depth]; }
OP(op_halt) { (void)m; (void)at; return 0; }
OP(op_native) { m->top--; m->top[0] = m->natives[at->operand](m, m->top[0], m->top[1]); return at + 1; }

// Quickened forms of `native` for slots that are known to be plain arithmetic.
OP(op_mul) { m->top--; m->top[0] *= m->top[1]; return at + 1; }
OP(op_mod) { m->top--; m->top[0] %= m->top[1]; return at + 1; }
OP(op_generic_native);

static int64_t native_mul(Machine *m, int64_t a, int64_t b) { (void)m; return a * b; }
static int64_t native_mod(Machine *m, int64_t a, int64_t b) { (void)m; return a % b; }
static int64_t native_half(Machine *m, int64_t a, int64_t b) { (void)m; return a >> b; }
static int64_t native_xor(Machine *m, int64_t a, int64_t b) { (void)m; return a ^ b; }
// Swaps two natives: later calls of either slot reach the other function. Returns which of them now multiplies.
static int64_t native_exchange(Machine *m, int64_t a, int64_t b) {
  Native held = m->natives[a];
  m->natives[a] = m->natives[b];
  m->natives[b] = held;
  return m->natives[a] == native_mul ? a : b;
}

OP(op_generic_native) {
  Native native = m->natives[at->operand];
  m->patched++;
  at->run = native == native_mul ? op_mul : native == native_mod ? op_mod : op_native;
  return at->run(m, at);
}

enum { MUL, MOD, HALF, XOR, EXCHANGE };
enum { N, I, J, SUM, STEPS, LONGEST, TMP };

static Code program[160];
static int length;
static int emit(Handler run, int64_t operand) { program[length] = (Code){run, operand}; return length++; }
static void native(int slot) { emit(op_generic_native, slot); }
static void patch(int at) { program[at].operand = length; }
static void count_up(int cell) { emit(op_load, cell); emit(op_push, 1); emit(op_add, 0); emit(op_store, cell); }

// cells[SUM] += the number of primes up to N, by trial division.
static void write_primes(void) {
  emit(op_push, 2); emit(op_store, I);
  int outer = length;
  emit(op_load, N); emit(op_load, I); emit(op_less, 0);
  int stay = emit(op_jump_zero, 0), leave = emit(op_jump, 0);
  patch(stay);
  emit(op_push, 2); emit(op_store, J);
  int inner = length;
  emit(op_load, I); emit(op_load, J); emit(op_load, J); native(MUL); emit(op_less, 0);
  int go_on = emit(op_jump_zero, 0);
  count_up(SUM);
  int prime = emit(op_jump, 0);
  patch(go_on);
  emit(op_load, I); emit(op_load, J); native(MOD);
  int divides = emit(op_jump_zero, 0);
  count_up(J);
  emit(op_jump, inner);
  patch(prime); patch(divides);
  count_up(I);
  emit(op_jump, outer);
  patch(leave);
}

// cells[LONGEST] = the most Collatz steps of a start value up to N; multiplies through a slot that is exchanged.
static void write_collatz(void) {
  emit(op_push, 1); emit(op_store, I);
  int outer = length;
  emit(op_load, N); emit(op_load, I); emit(op_less, 0);
  int stay = emit(op_jump_zero, 0), leave = emit(op_jump, 0);
  patch(stay);
  emit(op_push, 0); emit(op_store, STEPS);
  emit(op_load, I);
  int inner = length;
  emit(op_dup, 0); emit(op_push, 2); emit(op_less, 0);
  int more = emit(op_jump_zero, 0), done = emit(op_jump, 0);
  patch(more);
  count_up(STEPS);
  emit(op_dup, 0); emit(op_push, 2); native(MOD);
  int even = emit(op_jump_zero, 0);
  emit(op_push, 3); native(MUL); emit(op_push, 1); emit(op_add, 0);
  emit(op_jump, inner);
  patch(even);
  emit(op_push, 1); native(HALF);
  emit(op_jump, inner);
  patch(done);
  emit(op_store, TMP);
  emit(op_load, LONGEST); emit(op_load, STEPS); emit(op_less, 0);
  int shorter = emit(op_jump_zero, 0);
  emit(op_load, STEPS); emit(op_store, LONGEST);
  patch(shorter);
  emit(op_push, HALF); emit(op_push, XOR); native(EXCHANGE); emit(op_store, TMP);
  emit(op_push, HALF); emit(op_push, XOR); native(EXCHANGE); emit(op_store, TMP);
  count_up(I);
  emit(op_jump, outer);
  patch(leave);
}

// Leaves fib(k) on the stack, by a recursive subroutine of the program.
static void write_fibonacci(int64_t k) {
  emit(op_push, k);
  int start = emit(op_call, 0), skip = emit(op_jump, 0);
  int fib = length;
  program[start].operand = fib;
  emit(op_dup, 0); emit(op_push, 2); emit(op_less, 0);
  int recurse = emit(op_jump_zero, 0);
  emit(op_return, 0);
  patch(recurse);
  emit(op_dup, 0); emit(op_push, 1); emit(op_sub, 0); emit(op_call, fib);
  emit(op_swap, 0); emit(op_push, 2); emit(op_sub, 0); emit(op_call, fib);
  emit(op_add, 0);
  emit(op_return, 0);
  patch(skip);
  emit(op_halt, 0);
}

int main(int argc, char **argv) {
  static Machine m;
  m.top = m.stack;
  m.program = program;
  m.cells[N] = arg_number(argc, argv, 1, 3000);
  Native natives[] = {native_mul, native_mod, native_half, native_xor, native_exchange};
  memcpy(m.natives, natives, sizeof natives);
  int fib = 10;
  for (int64_t n = m.cells[N]; n > 100; n /= 2) fib++;
  write_primes();
  write_collatz();
  write_fibonacci(fib);
  const Code *at = program;
  while (at) { m.executed++; at = at->run(&m, (Code *)at); }
  printf("primes %lld\nlongest collatz %lld\nfib(%d) %lld\n", (long long)m.cells[SUM], (long long)m.cells[LONGEST], fib,
         (long long)*m.top);
  printf("%llu instructions, %llu patched\n", (unsigned long long)m.executed, (unsigned long long)m.patched);
  return 0;
}
