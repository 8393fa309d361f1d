// JavaScript at work for a tenth of a second or so: numbers, objects, arrays, Map, strings, JSON, closures, regular
// expressions. usage: task.js [SCALE]
const scale = Number(scriptArgs[1] ?? "1");

const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));

function sieve(limit) {
  const composite = new Uint8Array(limit);
  let count = 0;
  for (let n = 2; n < limit; n++) {
    if (composite[n]) continue;
    count++;
    for (let k = n * n; k < limit; k += n) composite[k] = 1;
  }
  return count;
}

class Vector {
  constructor(x, y) { this.x = x; this.y = y; }
  plus(other) { return new Vector(this.x + other.x, this.y + other.y); }
}

let sum = new Vector(0, 0);
for (let i = 1; i <= 10000 * scale; i++) sum = sum.plus(new Vector(i, 1 / i));
const counts = new Map();
for (let i = 0; i < 10000 * scale; i++) counts.set(i * 7919 % 509, (counts.get(i * 7919 % 509) ?? 0) + 1);
const data = Array.from({ length: 500 * scale }, (_, i) => ({ id: i, name: `n${i * 31 % 97}`, tags: [i, i + 1] }));
const copy = JSON.parse(JSON.stringify(data)).filter((d) => /n[1-4]\d/.test(d.name)).sort((a, b) => b.id - a.id);
print(fib(18), sieve(20000 * scale), sum.x, sum.y.toFixed(9), counts.size, copy.length, copy[0].name);
