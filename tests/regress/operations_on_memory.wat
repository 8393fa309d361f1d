;; Operations on memory that cost more than is left of the fuel of loops: the rest is taken from that of entries, and then owed. Entries, loops and
;; operations take turns, so that each of them is what a slice ends with.
(module
  (memory (export "memory") 2)
  (global $calls (export "calls") (mut i32) (i32.const 0))

  (func $down (param $n i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (result i32) (local.get $n)
      (then (i32.add (call $down (i32.sub (local.get $n) (i32.const 1))) (i32.load8_u (local.get $n))))
      (else (i32.const 1))))

  (func (export "fills") (param $rounds i32) (result i32)
    (local $i i32) (local $sum i32)
    (local.set $rounds (i32.and (local.get $rounds) (i32.const 31)))
    (loop $again
      (memory.fill
        (i32.shl (local.get $i) (i32.const 4))
        (local.get $i)
        (i32.and (i32.mul (local.get $i) (i32.const 7919)) (i32.const 0xffff)))
      (local.set $sum (i32.add (local.get $sum) (call $down (i32.and (local.get $i) (i32.const 7)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.add (local.get $rounds) (i32.const 20)))))
    (local.get $sum))

  ;; With the entries' fuel spent first, and then that of loops.
  (func (export "calls_then_copies") (param $from i32) (result i32)
    (local $i i32) (local $sum i32)
    (local.set $from (i32.and (local.get $from) (i32.const 0x7fff)))
    (local.set $sum (call $down (i32.const 40)))
    (loop $again
      (memory.copy (i32.const 0x8000) (local.get $from) (i32.and (i32.mul (local.get $i) (i32.const 5003)) (i32.const 0x7fff)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 30))))
    (i32.add (local.get $sum) (i32.load (i32.const 0x8000))))

  ;; In a function that cannot suspend.
  (func $clear (param $at i32) (memory.fill (local.get $at) (i32.const 0) (i32.const 3000)))
  (func (export "clears") (param $n i32) (result i32)
    (local.set $n (i32.add (i32.and (local.get $n) (i32.const 15)) (i32.const 5)))
    (loop $again
      (call $clear (i32.shl (local.get $n) (i32.const 6)))
      (drop (call $down (i32.const 2)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (global.get $calls)))
