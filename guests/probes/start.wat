;; EXPECT: 98848664884167316
;; A start function that loops and calls for a while before anything is exported to the host: it can be paused as well. What it
;; leaves in memory, table and globals, `run` takes further.
(module
  (memory 1)
  (table 4 funcref)
  (elem (i32.const 0) $left $right)
  (global $seed (mut i64) (i64.const 1))
  (global $started (mut i32) (i32.const 0))
  (start $start)
  (type $f (func (param i64) (result i64)))

  (func $left (type $f) (i64.add (i64.mul (local.get 0) (i64.const 6364136223846793005)) (call $wait (i32.const 2))))
  (func $right (type $f) (i64.xor (local.get 0) (i64.shr_u (call $left (local.get 0)) (i64.const 11))))
  (func $wait (param $n i32) (result i64) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 3)) (i64.const 1)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $h))

  ;; Fills `count` i64 in memory, recursion over halves.
  (func $fill (param $from i32) (param $count i32)
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (global.set $seed (call_indirect (type $f) (global.get $seed) (i32.and (local.get $from) (i32.const 1))))
        (i64.store (i32.shl (local.get $from) (i32.const 3)) (global.get $seed)))
      (else
        (call $fill (local.get $from) (i32.shr_u (local.get $count) (i32.const 1)))
        (call $fill (i32.add (local.get $from) (i32.shr_u (local.get $count) (i32.const 1)))
          (i32.sub (local.get $count) (i32.shr_u (local.get $count) (i32.const 1)))))))

  (func $start (local $round i32)
    (loop $again
      (call $fill (i32.const 0) (i32.const 100))
      (table.set (i32.add (i32.const 2) (i32.and (local.get $round) (i32.const 1))) (table.get (i32.and (local.get $round) (i32.const 1))))
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $round) (i32.const 4))))
    (global.set $started (local.get $round)))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (if (i32.ne (global.get $started) (i32.const 4)) (then (return (i64.const -1))))
    (loop $again
      (local.set $h (call_indirect (type $f)
        (i64.add (local.get $h) (i64.load (i32.shl (local.get $i) (i32.const 3))))
        (i32.add (i32.const 2) (i32.and (local.get $i) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))
    (local.get $h)))
