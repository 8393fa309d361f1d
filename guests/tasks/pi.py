"""Three jobs that scale with one number: a sieve of primes, big-integer digits of pi, and a JSON round trip.

usage: pi.py [SCALE] [REPORT]
SCALE 1 takes under two seconds under a compiling Wasm engine, the default of 200 a minute or more. The report goes to
stdout and, when REPORT is given, line by line to that file as well. It depends on SCALE alone.
"""

import json
import sys
import zlib


class Report:
    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8") if path else None

    def line(self, text):
        print(text, flush=True)
        if self.file:
            self.file.write(text + "\n")
            self.file.flush()

    def close(self):
        if self.file:
            self.file.close()


def sieve(limit):
    flags = bytearray([1]) * (limit + 1)
    flags[0:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if flags[n]:
            for multiple in range(n * n, limit + 1, n):
                flags[multiple] = 0
    return [n for n in range(limit + 1) if flags[n]]


def pi_digits(count):
    """The first `count` digits of pi, by Gibbons' unbounded spigot (2006)."""
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    while count:
        if 4 * q + r - t < m * t:
            yield m
            count -= 1
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = (
                q * k,
                (2 * q + r) * x,
                t * x,
                k + 1,
                (q * (7 * k + 2) + r * x) // (t * x),
                x + 2,
            )


def machin_digits(count):
    """The same digits by Machin's formula, with big integers."""
    unit = 10 ** (count + 10)

    def arctan_inverse(x):
        total = term = unit // x
        n, sign, square = 3, -1, x * x
        while term:
            term //= square
            total += sign * (term // n)
            sign, n = -sign, n + 2
        return total

    return str(4 * (4 * arctan_inverse(5) - arctan_inverse(239)) // 10**10)[:count]


def make_tree(depth, width, seed):
    """Nested data with every JSON type, from a linear congruential generator."""
    seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
    if depth == 0:
        return [seed % 1000, seed / 2**64, f"näme-{seed % 97}", seed % 3 == 0, None][seed % 5]
    return {
        "id": seed % 100000,
        "tags": [f"t{(seed >> s) % 50}" for s in range(0, 40, 8)],
        "items": [make_tree(depth - 1, width, seed + i) for i in range(width)],
    }


def json_round_trips(times):
    tree = make_tree(4, 6, 42)
    size = 0
    for turn in range(times):
        text = json.dumps(tree, indent=turn % 3 or None, sort_keys=True, ensure_ascii=turn % 2 == 0)
        again = json.loads(text, object_pairs_hook=lambda pairs: dict(sorted(pairs)))
        assert again == tree
        again["turn"], tree = turn, again
        size += len(text)
    return size, zlib.crc32(json.dumps(tree, sort_keys=True).encode())


def main():
    sys.set_int_max_str_digits(0)
    scale = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    report = Report(sys.argv[2] if len(sys.argv) > 2 else None)
    report.line(f"scale {scale}")

    for part in range(1, 2 * scale + 1):
        primes = sieve(60000 + part * 1000)
        if part % 10 == 0 or part == 2 * scale:
            report.line(f"primes below {60000 + part * 1000}: {len(primes)}, last {primes[-1]}, sum {sum(primes)}")

    count = int(300 * scale**0.5)
    digits = ""
    for digit in pi_digits(count):
        digits += str(digit)
        if len(digits) % 500 == 0:
            report.line(f"pi: {len(digits)} digits, ending {digits[-10:]}")
    assert digits == machin_digits(count)
    many = machin_digits(count * 5)
    assert many.startswith(digits)
    report.line(f"pi: {count} digits twice the same, crc {zlib.crc32(digits.encode()):08x}")
    report.line(f"pi: {count * 5} digits, ending {many[-10:]}, crc {zlib.crc32(many.encode()):08x}")

    size, crc = json_round_trips(scale * 3)
    report.line(f"json: {scale * 3} round trips, {size} characters, crc {crc:08x}")
    report.line("done")
    report.close()


main()
