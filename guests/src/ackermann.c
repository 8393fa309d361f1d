// Deep call stacks: Ackermann's function, mutual recursion that holds values of several types in every frame, and a walk
// down and up again DEPTH calls. The default depth fits wasmtime's default stack of 512 KiB with room to spare; a larger
// one probes where the stack ends (a trap, not a wrong result). usage: ackermann [N] [DEPTH] [REPEAT]
#include "guest.h"

static uint64_t calls;
static uint32_t deepest;

__attribute__((noinline)) static uint32_t ackermann(uint32_t m, uint32_t n, uint32_t depth) {
  calls++;
  if (depth > deepest) deepest = depth;
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1, depth + 1);
  uint32_t inner = ackermann(m, n - 1, depth + 1);
  return ackermann(m - 1, inner, depth + 1);
}

static double odd(uint64_t n, int32_t salt, double sum, float step);

// Each frame keeps i32, i64, f32 and f64 values alive across the call, and mixes them on the way back.
__attribute__((noinline)) static double even(uint64_t n, int32_t salt, double sum, float step) {
  if (n == 0) return sum + salt;
  double below = odd(n - 1, salt * 31 + 7, sum + step, step * 0.5f + 1.0f);
  return below * 0.5 + (double)(n ^ (uint32_t)salt % 1009) + step - sum * 0.125;
}

__attribute__((noinline)) static double odd(uint64_t n, int32_t salt, double sum, float step) {
  if (n == 0) return sum - salt;
  double below = even(n - 1, salt ^ (int32_t)n, sum - step, step + 0.25f);
  return below * 0.25 - (double)(n + (uint32_t)salt % 101) + step * 2 + sum * 0.0625;
}

// An array in every frame, so the C stack in linear memory grows along with the call stack.
__attribute__((noinline)) static uint64_t dive(uint32_t depth, uint64_t seed) {
  volatile uint64_t own[4];
  for (int i = 0; i < 4; i++) own[i] = next_random(&seed);
  if (depth == 0) return own[0];
  uint64_t below = dive(depth - 1, own[1]);
  return below * 31 + (own[0] ^ own[2]) + own[3] % (depth + 1);
}

int main(int argc, char **argv) {
  uint64_t n = arg_number(argc, argv, 1, 6), depth = arg_number(argc, argv, 2, 2000), repeat = arg_number(argc, argv, 3, 20);
  uint32_t result = 0;
  if (n > 20) fail("N must be at most 20");
  result = ackermann(2, (uint32_t)n, 1);
  printf("ackermann(2, %llu) = %u, %llu calls, %u deep\n", (unsigned long long)n, result, (unsigned long long)calls, deepest);
  calls = 0;
  deepest = 0;
  result = ackermann(3, (uint32_t)n, 1);
  printf("ackermann(3, %llu) = %u, %llu calls, %u deep\n", (unsigned long long)n, result, (unsigned long long)calls, deepest);
  double mixed = 0;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < repeat; i++) {
    mixed += even(depth, (int32_t)i, 1.0, 0.5f);
    sum = sum * 17 + dive((uint32_t)depth, i);
  }
  printf("mixed %.6f\ndive %016llx\n", mixed, (unsigned long long)sum);
  return 0;
}
