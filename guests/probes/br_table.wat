;; EXPECT: -7427167315476683717
;; Webs of br_table: a byte-code interpreter as one loop over one br_table (with calls inside), tables that leave loops, go
;; back to headers of outer loops, and carry values; default cases; the same label several times over.
(module
  (memory 1)
  ;; op-codes: 0 push next byte, 1 add, 2 mul, 3 dup, 4 jump back by next byte while the counter is not zero, 5 spin, 6 xor, 7 swap,
  ;; 8 store, 9 load, 10 call, 255 halt
  (data (i32.const 0)
    "\00\07\00\03\01\03\02\05\00\2a\06\07\08\00\11\01\09\01\0a\03\02\05\04\0f\00\05\07\06\01\04\0a\0a\05\04\1f\ff")
  (global $cell (mut i64) (i64.const 99))

  (func $spin (param $x i64) (param $n i32) (result i64)
    (loop $again
      (local.set $x (i64.add (i64.rotl (local.get $x) (i64.const 7)) (i64.const 0x9e3779b97f4a7c15)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  ;; Top two stack values in locals, the rest in memory at 1024.
  (func $interpret (param $counter i32) (result i64) (local $pc i32) (local $sp i32) (local $top i64) (local $op i32)
    (local.set $sp (i32.const 1024))
    (loop $next
      (local.set $op (i32.load8_u (local.get $pc)))
      (local.set $pc (i32.add (local.get $pc) (i32.const 1)))
      (block $halt
        (block $call (block $load (block $store (block $swap (block $xor (block $spun (block $jump (block $dup (block $mul (block $add (block $push
          (br_table $push $add $mul $dup $jump $spun $xor $swap $store $load $call $halt (local.get $op)))
          ;; push
          (i64.store (local.get $sp) (local.get $top))
          (local.set $sp (i32.add (local.get $sp) (i32.const 8)))
          (local.set $top (i64.load8_u (local.get $pc)))
          (local.set $pc (i32.add (local.get $pc) (i32.const 1)))
          (br $next))
          ;; add
          (local.set $sp (i32.sub (local.get $sp) (i32.const 8)))
          (local.set $top (i64.add (local.get $top) (i64.load (local.get $sp))))
          (br $next))
          ;; mul by itself plus one
          (local.set $top (i64.mul (local.get $top) (i64.add (local.get $top) (i64.const 1))))
          (br $next))
          ;; dup
          (i64.store (local.get $sp) (local.get $top))
          (local.set $sp (i32.add (local.get $sp) (i32.const 8)))
          (br $next))
          ;; jump
          (local.set $counter (i32.sub (local.get $counter) (i32.const 1)))
          (if (i32.gt_s (local.get $counter) (i32.const 0))
            (then
              (local.set $pc (i32.sub (local.get $pc) (i32.load8_u (local.get $pc))))
              ;; The stack must not run away.
              (if (i32.gt_u (local.get $sp) (i32.const 1200)) (then (local.set $sp (i32.const 1024)))))
            (else (local.set $pc (i32.add (local.get $pc) (i32.const 1)))))
          (br $next))
          ;; spin
          (local.set $top (call $spin (local.get $top) (i32.const 2)))
          (br $next))
          ;; xor
          (local.set $top (i64.xor (local.get $top) (i64.load (i32.sub (local.get $sp) (i32.const 8)))))
          (br $next))
          ;; swap
          (i32.sub (local.get $sp) (i32.const 8))
          (call $spin (local.get $top) (i32.const 1))
          (local.set $top (i64.load (i32.sub (local.get $sp) (i32.const 8))))
          (i64.store)
          (br $next))
          ;; store
          (global.set $cell (i64.add (global.get $cell) (local.get $top)))
          (br $next))
          ;; load
          (local.set $top (i64.xor (global.get $cell) (local.get $top)))
          (br $next))
          ;; call: below by one level, on a shorter count
          (if (i32.gt_s (local.get $counter) (i32.const 6))
            (then (local.set $top (i64.add (local.get $top) (call $interpret (i32.div_s (local.get $counter) (i32.const 3)))))))
          (br $next)))
    (local.get $top))

  ;; Leaves one of three loops, or goes on with one of them, by a table; values ride along to the blocks.
  (func $web (param $n i32) (result i64) (local $h i64) (local $i i32) (local $j i32) (local $k i32)
    (block $out (result i64)
      (loop $outer
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (if (i32.gt_u (local.get $i) (local.get $n)) (then (br $out (local.get $h))))
        (local.set $j (i32.const 0))
        (loop $middle
          (local.set $j (i32.add (local.get $j) (i32.const 1)))
          (local.set $k (i32.const 0))
          (block $after
            (loop $inner
              (local.set $k (i32.add (local.get $k) (i32.const 1)))
              (local.set $h (call $spin (i64.add (local.get $h) (i64.extend_i32_u (local.get $k))) (i32.const 1)))
              (br_table $inner $after $inner $middle $after $inner $outer $inner $inner $after
                (i32.wrap_i64 (i64.rem_u (local.get $h) (i64.const 11))))))
          (br_if $middle (i32.lt_u (local.get $j) (i32.const 4))))
        (br $outer))
      (unreachable)))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $interpret (i32.add (local.get $i) (i32.const 10)))))
      (local.set $h (i64.xor (local.get $h) (call $web (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 24))))
    (local.get $h)))
