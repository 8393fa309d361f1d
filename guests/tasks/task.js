// JavaScript at work under QuickJS: classes, closures, generators, Map and Set, big integers, regular expressions, typed arrays,
// JSON, exceptions, promises. usage: qjs task.js [SCALE] [FILE]
// SCALE 1 takes under two seconds, the default of 60 a minute or so. Output depends on SCALE alone.
import * as std from "qjs:std";

const scale = Number(scriptArgs[1] ?? 60);
const file = scriptArgs[2] ? std.open(scriptArgs[2], "w") : null;
function report(text) {
  print(text);
  if (file) { file.puts(text + "\n"); file.flush(); }
}

let state = 12345;
function random(n) {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % n;
}

function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return h.toString(16).padStart(8, "0");
}

// The DeltaBlue kind of code: many small objects, virtual calls, a priority queue.
class Task {
  constructor(id, due) { this.id = id; this.due = due; }
  run(queue) { return this.id; }
}
class Repeating extends Task {
  constructor(id, due, period) { super(id, due); this.period = period; }
  run(queue) {
    if (this.due + this.period < 5000) queue.push(new Repeating(this.id, this.due + this.period, this.period));
    return super.run(queue) * 2;
  }
}
class Forking extends Task {
  run(queue) {
    if (this.due < 3000) {
      queue.push(new Task(this.id + 1, this.due + 1 + random(50)));
      queue.push(new Forking(this.id + 2, this.due + 200 + random(100)));
    }
    return super.run(queue) ^ 0x55;
  }
}
class Queue {
  #heap = [];
  get size() { return this.#heap.length; }
  push(task) {
    const heap = this.#heap;
    let at = heap.push(task) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (heap[above].due <= task.due) break;
      heap[at] = heap[above];
      at = above;
    }
    heap[at] = task;
  }
  pop() {
    const heap = this.#heap, first = heap[0], last = heap.pop();
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && heap[below + 1].due < heap[below].due) below++;
      if (heap[below].due >= last.due) break;
      heap[at] = heap[below];
      at = below;
    }
    heap[at] = last;
    return first;
  }
}

function schedule(seed) {
  const queue = new Queue();
  for (let i = 0; i < 20; i++) queue.push(new Repeating(i, random(100), 20 + random(40)));
  queue.push(new Forking(1000 + seed, 5));
  let steps = 0, sum = 0;
  while (queue.size > 0) {
    const task = queue.pop();
    sum = (sum * 31 + task.run(queue) + task.due) % 1000000007;
    steps++;
  }
  return `${steps} tasks ${sum}`;
}

function* primes() {
  const found = [];
  for (let n = 2; ; n++) {
    if (found.every((p) => p * p > n || n % p !== 0)) { found.push(n); yield n; }
  }
}

function bigIntegers(n) {
  let a = 1n, b = 1n;
  for (let i = 1; i <= n; i++) { a *= BigInt(i); b = (b * b + BigInt(i)) % (2n ** 521n - 1n); }
  return hash(a.toString()) + " " + hash(b.toString(36));
}

function text(words) {
  const out = [];
  for (let i = 0; i < words; i++) {
    const kind = random(6);
    if (kind === 0) out.push(`${random(28) + 1}.${random(12) + 1}.20${10 + random(20)}`);
    else if (kind === 1) out.push(`user${random(100)}@host${random(10)}.example`);
    else out.push(random(2 ** 24).toString(36));
  }
  return out.join(" ");
}

function regularExpressions(source) {
  const years = new Map();
  for (const { groups } of source.matchAll(/(?<day>\d{1,2})\.(?<month>\d{1,2})\.(?<year>20\d\d)/g))
    years.set(groups.year, (years.get(groups.year) ?? 0) + 1);
  const hosts = new Set(source.match(/\b[\w.]+@host\d\.example\b/g));
  const turned = source.replace(/(\w+)@(\w+)\.example/g, (_, who, where) => `${where}:${who}`).replace(/(?<=a)b+|c(?!d)/g, "_");
  const list = [...years].sort().map(([year, count]) => `${year}:${count}`).join(",");
  return `${hosts.size} hosts, ${hash(list)} ${hash(turned)}`;
}

function typedArrays(n) {
  const image = new Float64Array(n * n), next = new Float64Array(n * n);
  for (let i = 0; i < image.length; i++) image[i] = random(256);
  for (let round = 0; round < 5; round++) {
    for (let y = 1; y < n - 1; y++)
      for (let x = 1; x < n - 1; x++) {
        const at = y * n + x;
        next[at] = (image[at - 1] + image[at + 1] + image[at - n] + image[at + n]) / 4;
      }
    image.set(next);
  }
  const bytes = new Uint8Array(image.buffer);
  return hash(String.fromCharCode(...bytes.subarray(8 * n * 5, 8 * n * 6)));
}

function roundTrip(depth) {
  const make = (d) => d === 0
    ? [random(100) / 7, "\u00e9\u{1f600}" + random(10), null, random(2) === 0][random(4)]
    : { list: Array.from({ length: 3 }, () => make(d - 1)), [`key${random(50)}`]: make(d - 1) };
  const value = make(depth), once = JSON.stringify(value), again = JSON.stringify(JSON.parse(once), null, 2);
  if (JSON.stringify(JSON.parse(again)) !== once) throw new Error("the JSON round trip changed the value");
  return `${again.length} ${hash(again)}`;
}

function exceptions(times) {
  let sum = 0;
  const dig = (depth) => {
    try {
      if (depth === 0) throw new RangeError("bottom");
      return dig(depth - 1) + 1;
    } finally { sum += depth; }
  };
  for (let i = 0; i < times; i++) {
    try { dig(random(30)); } catch (error) { if (!(error instanceof RangeError)) throw error; sum += error.message.length; }
    try { null.x; } catch (error) { sum += error.constructor.name.length; }
  }
  return sum;
}

async function inTurn(n) {
  let sum = 0;
  const step = async (i) => { await null; sum = (sum * 7 + i) % 1000003; if (i % 10 === 0) throw i; return i; };
  for (let i = 0; i < n; i++) { try { sum += await step(i); } catch (thrown) { sum += thrown * 2; } }
  const all = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => step(i)));
  return `${sum} ${all.map((one) => one.status[0]).join("")}`;
}

report(`scale ${scale}`);
for (let round = 1; round <= scale; round++) {
  let last = 0, count = 0;
  for (const p of primes()) { last = p; if (++count === 400) break; }
  report([`${round}: ${schedule(round)}`, `prime ${last}`, bigIntegers(300 + round), regularExpressions(text(3000)), typedArrays(100),
    roundTrip(6), exceptions(1000), await inTurn(1000)].join("; "));
}
report("done");
file?.close();
