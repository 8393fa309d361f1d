# Python at work for a tenth of a second or so: integers, floats, strings, dictionaries, objects, generators, sorting.
# usage: task.py [SCALE]
import sys


class Body:
    def __init__(self, x, v):
        self.x, self.v = x, v

    def step(self, dt):
        self.v -= self.x * dt
        self.x += self.v * dt


def primes(limit):
    sieve = bytearray([1]) * limit
    for n in range(2, limit):
        if sieve[n]:
            yield n
            for k in range(n * n, limit, n):
                sieve[k] = 0


def words(count):
    state = 7
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2147483648
        yield "w%d" % (state >> 16 & 255)


def run(scale):
    total = sum(primes(4000 * scale))
    counts = {}
    for word in words(2000 * scale):
        counts[word] = counts.get(word, 0) + 1
    bodies = [Body(0.1 * i, 1.0) for i in range(10)]
    for _ in range(100 * scale):
        for body in bodies:
            body.step(0.01)
    text = ",".join(sorted(counts, key=lambda w: (-counts[w], w))[:5])
    digits = str(3 ** (1000 * scale))[:20]
    print(total, text, "%.6f" % sum(b.x for b in bodies), digits)


run(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
