// SHA-256 (FIPS 180-4): the standard's test vectors, then a chain of ROUNDS hashes over a block of 4096 bytes that each
// digest changes; or the hash of stdin with "-". Rotates and adds on i32. usage: sha256 [ROUNDS] | sha256 -
#include "guest.h"

typedef struct { uint32_t state[8]; uint64_t length; unsigned char block[64]; } Sha;

static const uint32_t K[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void transform(uint32_t *state, const unsigned char *block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  memcpy(s, state, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t e = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
    uint32_t t1 = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
    uint32_t a = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
    uint32_t t2 = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s[7] = s[6]; s[6] = s[5]; s[5] = s[4]; s[4] = s[3] + t1;
    s[3] = s[2]; s[2] = s[1]; s[1] = s[0]; s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void start(Sha *sha) {
  static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(sha->state, first, sizeof first);
  sha->length = 0;
}

static void update(Sha *sha, const void *bytes, size_t count) {
  const unsigned char *from = bytes;
  while (count > 0) {
    size_t filled = sha->length % 64, part = 64 - filled < count ? 64 - filled : count;
    memcpy(sha->block + filled, from, part);
    sha->length += part;
    from += part;
    count -= part;
    if (sha->length % 64 == 0) transform(sha->state, sha->block);
  }
}

static void finish(Sha *sha, unsigned char *digest) {
  uint64_t bits = sha->length * 8;
  unsigned char one = 0x80, zero = 0, size[8];
  update(sha, &one, 1);
  while (sha->length % 64 != 56) update(sha, &zero, 1);
  for (int i = 0; i < 8; i++) size[i] = (unsigned char)(bits >> (56 - 8 * i));
  update(sha, size, 8);
  for (int i = 0; i < 32; i++) digest[i] = (unsigned char)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}

static const char *hex(const unsigned char *digest) {
  static char text[65];
  for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  return text;
}

static void check_vector(const char *message, const char *expected) {
  Sha sha;
  unsigned char digest[32];
  start(&sha);
  update(&sha, message, strlen(message));
  finish(&sha, digest);
  if (strcmp(hex(digest), expected)) fail("a test vector of the standard");
}

static void hash_stdin(void) {
  Sha sha;
  unsigned char part[4096], digest[32];
  start(&sha);
  for (size_t got; (got = fread(part, 1, sizeof part, stdin)) > 0;) update(&sha, part, got);
  finish(&sha, digest);
  printf("%s  -\n", hex(digest));
}

int main(int argc, char **argv) {
  check_vector("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  check_vector("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  check_vector("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  if (argc > 1 && !strcmp(argv[1], "-")) { hash_stdin(); return 0; }
  uint64_t rounds = arg_number(argc, argv, 1, 1000);
  static unsigned char block[4096];
  unsigned char digest[32] = {0};
  for (uint64_t i = 0; i < rounds; i++) {
    Sha sha;
    start(&sha);
    update(&sha, block, sizeof block);
    finish(&sha, digest);
    memcpy(block + i * 32 % sizeof block, digest, 32);
  }
  printf("%llu rounds: %s\n", (unsigned long long)rounds, hex(digest));
  return 0;
}
