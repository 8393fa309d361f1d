#!/usr/bin/env bash
# Writes a tree of MODULES small modules (TypeScript, JavaScript, JSX, JSON, CSS) for esbuild to bundle; the same bytes each time.
# usage: make_tree.sh DIR [MODULES]
set -euo pipefail
dir=$1
modules=${2:-40}
mkdir -p "$dir/lib"

# Module i imports up to three with higher numbers, so that every one is reached, none in a circle, and few levels deep (esbuild walks
# imports by recursion: a chain of 3,000 is more than wasmtime's default stack holds).
imports() {
  local i=$1 next
  for next in $((2 * i + 1)) $((2 * i + 2)) $((3 * i + 5)); do
    if ((next < modules)); then echo "import { part$next } from './m$next';"; fi
  done
}

uses() {
  local i=$1 next
  for next in $((2 * i + 1)) $((2 * i + 2)) $((3 * i + 5)); do
    if ((next < modules)); then echo "  if (depth > 0) total += part$next(depth - 1, options);"; fi
  done
}

for ((i = 0; i < modules; i++)); do
  case $((i % 4)) in
  0 | 1)
    {
      imports $i
      cat <<TS
export interface Options$i<T extends number = number> { readonly scale: T; label?: string; nested?: { on: boolean } }
enum Kind$i { Small = $i, Large = Small << 2, Text = "k$i" as any }
/** Part $i: unused helpers below are to be dropped. */
export function part$i(depth: number, options: Options$i): number {
  let total: number = options?.scale ?? $((i * 7919 % 1009));
  const { label = \`part-\${$i}\`, nested: { on = true } = { on: false } } = options as Required<Options$i>;
$(uses $i)
  for (const [key, value] of Object.entries({ a: $i, b: total ** 2, [label]: on ? 1 : 2 })) total += value * key.length;
  return (total ^ Kind$i.Large) >>> 0;
}
export class Unused$i { static #count = 0; #own = $i; get own() { return this.#own + Unused$i.#count++; } }
TS
    } >"$dir/lib/m$i.ts"
    ;;
  2)
    {
      imports $i
      cat <<JSX
import data from './d$i.json';
const h = (tag, props, ...children) => ({ tag, props, children });
export const View$i = ({ items }) => <ul className="v$i">{items.map((item, at) => <li key={at} {...item}>{data.names[at] ?? 'none'} &amp; {item.x}</li>)}</ul>;
export function part$i(depth, options) {
  let total = View$i({ items: [{ x: $i }, { x: depth }] }).children.length + data.weights.reduce((a, b) => a + b, 0);
$(uses $i)
  return total % 1000003;
}
JSX
    } >"$dir/lib/m$i.jsx"
    printf '{ "names": ["a%d", "b%d", "\\u00e9%d"], "weights": [%d, %d, 0.5], "unused": { "deep": [null, true, "x"] } }\n' \
      $i $i $i $i $((i * 3)) >"$dir/lib/d$i.json"
    ;;
  3)
    {
      imports $i
      cat <<JS
import './s$i.css';
const table = new Map([[/^a+[b-z]{$((i % 9 + 1)),}$/u, async function* (n) { for await (const x of [n, n?.y, n ?? $i]) yield x; }]]);
export function part$i(depth, options) {
  let total = table.size + 0x$(printf %x $((i * 31))) + 1_000;
$(uses $i)
  switch (total % 3) { case 0: total ||= 1; case 1: total &&= total + 1; break; default: label: for (;;) { break label; } }
  return total;
}
JS
    } >"$dir/lib/m$i.js"
    printf '.v%d { color: #%06x; margin: %dpx 0 %dpx; & > li:hover { opacity: .%d0 } }\n@media (min-width: %dpx) { .v%d { inset: 0 } }\n' \
      $i $((i * 4999 % 16777216)) $i $i $((i % 9)) $((i * 10)) $i >"$dir/lib/s$i.css"
    ;;
  esac
done
cat >"$dir/index.ts" <<'TS'
import { part0 } from './lib/m0';
import * as again from './lib/m1';
declare const print: (text: string) => void;
print(`total ${part0(6, { scale: 3 })} ${again.part1(2, { scale: 5 })}`);
TS
