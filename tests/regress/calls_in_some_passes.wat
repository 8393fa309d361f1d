;; Loops that call in some passes only, so that copies of their bodies stand ahead of them: with operands beneath the loop, beneath what is in it
;; and beneath a call, with ways out past it, inner loops, calls through a table and by a reference, and in a recursive function.
(module
  (type $un (func (param i32) (result i32)))
  (type $bin (func (param i32 i64) (result i64 i32)))
  (memory 1)
  (global $left (mut i32) (i32.const 0))
  (global $sum (mut i64) (i64.const 0))
  (table 4 funcref)
  (elem (i32.const 0) $mix $deep $mix $walk)
  (elem declare func $both)

  (func $spend (result i32)
    (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (i32.lt_s (global.get $left) (i32.const 0)))
  ;; It can suspend: it has a loop of many passes.
  (func $mix (type $un)
    (local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (global.set $sum (i64.add (i64.rotl (global.get $sum) (i64.const 7)) (i64.extend_i32_u (local.get 0))))
      (br_if $again (i32.lt_u (local.get $i) (i32.and (local.get 0) (i32.const 31)))))
    (i32.add (local.get 0) (local.get $i)))
  (func $both (type $bin)
    (drop (call $mix (local.get 0)))
    (i64.add (local.get 1) (i64.const 3)) (i32.add (local.get 0) (i32.const 5)))
  (func $deep (type $un)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 1))
      (then (i32.const 1))
      (else (i32.add (call $deep (i32.sub (local.get 0) (i32.const 9))) (call $walk (i32.shr_u (local.get 0) (i32.const 1)))))))

  ;; An interpreter whose cases add to an operand beneath a call, go to an inner loop, return, and leave the loop with a value.
  (func $interpret (type $un)
    (local $at i32) (local $n i32)
    (i32.const 1000)
    (block $out (result i32)
      (i32.const 77)
      (loop $next (result i32)
        (if (call $spend) (then (br $out (local.get $n))))
        (i32.const 4)
        (block $tail
          (block $return (block $inner (block $indirect (block $reference (block $direct (block $light
            (br_table $light $direct $light $indirect $light $inner $light $reference $light $return
              (i32.rem_u (local.get 0) (i32.const 11))))
            ;; $light
            (local.set $n (i32.add (local.get $n) (local.get 0)))
            (br $tail))
            ;; $direct
            (local.set $n (i32.add (local.get $n) (i32.xor (local.get $at) (call $mix (i32.add (local.get 0) (local.get $at))))))
            (br $tail))
            ;; $reference
            (i32.const 12)
            (call_ref $bin (local.get $n) (i64.extend_i32_s (local.get $at)) (ref.func $both))
            (local.set $n)
            (global.set $sum)
            (local.set $at (i32.add (local.get $at)))
            (br $tail))
            ;; $indirect
            (local.set $n (i32.sub (local.get $n)
              (call_indirect (type $un) (i32.and (local.get 0) (i32.const 15)) (i32.and (local.get $at) (i32.const 1)))))
            (br $tail))
            ;; $inner
            (local.set $at (i32.and (local.get 0) (i32.const 7)))
            (i32.mul (local.get 0) (i32.const 6))
            (loop $more
              (global.set $sum (i64.add (global.get $sum) (i64.extend_i32_s (call $mix (local.get $at)))))
              (local.set $at (i32.sub (local.get $at) (i32.const 1)))
              (br_if $more (i32.gt_s (local.get $at) (i32.const 0))))
            (local.set $n (i32.add (local.get $n)))
            (br $tail))
          ;; $return
          (if (i32.gt_u (local.get $n) (i32.const 0x70000000)) (then (return (local.get $n)))))
        (local.set $at (i32.add (local.get $at)))
        (local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 5)) (i32.const 3)))
        (br_if $next (i32.rem_u (local.get 0) (i32.const 97)))
        (local.get $at))
      (i32.add)
      (br_if $out (i32.eqz (local.get $n)))
      (i32.add (local.get $n)))
    (i32.add))

  ;; Blocks with parameters, both arms of an `if`, a call behind a way out, and a call whose results go round.
  (func $walk (type $un)
    (local $n i32)
    (block $out
      (loop $next
        (br_if $out (call $spend))
        (br_if $out (i32.ge_u (local.get $n) (i32.const 40)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (i32.const 9)
        (local.get $n)
        (if (param i32) (result i32) (i32.and (local.get $n) (i32.const 3))
          (then (i32.mul (i32.const 3)))
          (else (i32.const 2) (call $mix (local.get 0)) (i32.add) (i32.add)))
        (i32.add)
        (local.set 0)
        (br_if $next (i32.rem_u (local.get 0) (i32.const 23)))
        (local.set 0 (i32.add (i32.const 1) (call $mix (local.get 0))))
        (br $next)))
    (local.get 0))

  ;; Recursive and short: a copy rebuilds its frames.
  (func $tree (param $n i32) (param $seed i32) (result i32)
    (if (i32.lt_s (local.get $n) (i32.const 1)) (then (return (local.get $seed))))
    (loop $next
      (local.set $seed (i32.add (i32.mul (local.get $seed) (i32.const 13)) (i32.const 1)))
      (if (i32.eqz (i32.and (local.get $seed) (i32.const 28)))
        (then (local.set $seed (call $tree (i32.sub (local.get $n) (i32.const 1)) (local.get $seed)))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (i32.gt_s (local.get $n) (i32.const 0))))
    (local.get $seed))

  (func (export "interpret") (param i32) (result i32) (global.set $left (i32.const 300)) (call $interpret (local.get 0)))
  (func (export "interpret_long") (result i32) (global.set $left (i32.const 3000)) (call $interpret (i32.const 1)))
  (func (export "walk") (param i32) (result i32) (global.set $left (i32.const 300)) (call $walk (local.get 0)))
  (func (export "deep") (result i32) (global.set $left (i32.const 2000)) (call $deep (i32.const 90)))
  (func (export "tree") (param i32) (result i32) (call $tree (i32.const 14) (local.get 0)))
  (func (export "sum") (result i64) (global.get $sum)))
