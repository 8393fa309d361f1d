;; EXPECT: -4588815825692594777
;; A 64-bit memory (and a 64-bit table beside it): addresses, sizes, grow, fill, copy, init and offsets above 4 GiB that
;; must trap are not used; a linked list with 64-bit links, and a sort, each in loops and calls.
(module
  (memory i64 1 64)
  (table $t i64 4 16 funcref)
  (elem (table $t) (i64.const 0) func $mix $twist)
  (data $seed "64-bit addresses all the way down")
  (type $unary (func (param i64) (result i64)))

  (func $mix (type $unary) (param $x i64) (result i64) (local $n i32)
    (local.set $n (i32.const 3))
    (loop $again
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 29))))
      (local.set $x (i64.mul (local.get $x) (i64.const -4658895280553007687)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))
  (func $twist (type $unary) (param $x i64) (result i64)
    (i64.rotl (call $mix (i64.add (local.get $x) (i64.const 1))) (i64.const 17)))

  ;; Nodes of 16 bytes at 1024: next (i64), value (i64), linked in a stride of 7 so that the walk jumps.
  (func $link (param $count i64) (local $i i64) (local $at i64) (local $next i64)
    (loop $again
      (local.set $at (i64.add (i64.const 1024) (i64.shl (local.get $i) (i64.const 4))))
      (local.set $next (i64.add (i64.const 1024)
        (i64.shl (i64.rem_u (i64.add (local.get $i) (i64.const 7)) (local.get $count)) (i64.const 4))))
      (i64.store (local.get $at) (local.get $next))
      (i64.store offset=8 (local.get $at)
        (call_indirect $t (type $unary) (local.get $i) (i64.and (local.get $i) (i64.const 1))))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $i) (local.get $count)))))

  (func $walk (param $steps i64) (result i64) (local $at i64) (local $h i64)
    (local.set $at (i64.const 1024))
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.load offset=8 (local.get $at))))
      (local.set $at (i64.load (local.get $at)))
      (local.set $steps (i64.sub (local.get $steps) (i64.const 1)))
      (br_if $again (i64.ne (local.get $steps) (i64.const 0))))
    (local.get $h))

  ;; Insertion sort of `count` i64 at `base`.
  (func $sort (param $base i64) (param $count i64) (local $i i64) (local $j i64) (local $v i64)
    (local.set $i (i64.const 1))
    (loop $outer
      (local.set $v (i64.load (i64.add (local.get $base) (i64.shl (local.get $i) (i64.const 3)))))
      (local.set $j (local.get $i))
      (block $placed
        (loop $inner
          (br_if $placed (i64.eqz (local.get $j)))
          (br_if $placed (i64.le_s (i64.load (i64.add (local.get $base) (i64.shl (i64.sub (local.get $j) (i64.const 1)) (i64.const 3)))) (local.get $v)))
          (i64.store (i64.add (local.get $base) (i64.shl (local.get $j) (i64.const 3)))
            (i64.load (i64.add (local.get $base) (i64.shl (i64.sub (local.get $j) (i64.const 1)) (i64.const 3)))))
          (local.set $j (i64.sub (local.get $j) (i64.const 1)))
          (br $inner)))
      (i64.store (i64.add (local.get $base) (i64.shl (local.get $j) (i64.const 3))) (local.get $v))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br_if $outer (i64.lt_u (local.get $i) (local.get $count)))))

  (func (export "run") (result i64) (local $h i64) (local $round i64) (local $base i64)
    (memory.init $seed (i64.const 16) (i32.const 0) (i32.const 33))
    (loop $again
      (local.set $h (i64.add (local.get $h) (i64.shl (memory.grow (i64.const 3)) (i64.const 40))))
      (call $link (i64.const 97))
      (local.set $h (i64.xor (call $walk (i64.const 200)) (local.get $h)))
      ;; The last pages of the memory take the sort.
      (local.set $base (i64.shl (i64.sub (memory.size) (i64.const 2)) (i64.const 16)))
      (memory.fill (local.get $base) (i32.wrap_i64 (local.get $round)) (i64.const 400))
      (memory.copy (i64.add (local.get $base) (i64.const 64)) (i64.const 1024) (i64.const 336))
      (call $sort (local.get $base) (i64.const 60))
      (memory.copy (i64.const 24) (i64.add (local.get $base) (i64.const 128)) (i64.const 16))
      (local.set $h (i64.add (i64.rotl (local.get $h) (i64.const 9)) (i64.load (i64.const 24))))
      (table.set $t (i64.add (i64.const 2) (i64.and (local.get $round) (i64.const 1))) (table.get $t (i64.and (local.get $round) (i64.const 1))))
      (local.set $h (call_indirect $t (type $unary) (local.get $h) (i64.add (i64.const 2) (i64.and (local.get $round) (i64.const 1)))))
      (local.set $round (i64.add (local.get $round) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $round) (i64.const 12))))
    (i64.add (local.get $h) (memory.size))))
