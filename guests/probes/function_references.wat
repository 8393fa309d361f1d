;; EXPECT: 615179181823982320
;; Typed function references: call_ref, ref.as_non_null, br_on_null, br_on_non_null, non-nullable locals, parameters and
;; results, typed tables with an initial value, references in globals, alive across calls that loop.
(module
  (type $unary (func (param i64) (result i64)))
  (type $higher (func (param (ref $unary) i64) (result i64)))
  (type $pick (func (param i32) (result (ref null $unary))))
  (table $typed 6 (ref null $unary))
  (table $full 4 (ref $unary) (ref.func $same))
  (global $current (mut (ref $unary)) (ref.func $same))
  (global $maybe (mut (ref null $unary)) (ref.null $unary))
  (elem (table $typed) (i32.const 1) (ref null $unary) (item ref.func $double) (item ref.func $inc) (item ref.null $unary))
  (elem declare func $double $inc $same $slow $twice $thrice $choose)

  (func $same (type $unary) (local.get 0))
  (func $inc (type $unary) (i64.add (local.get 0) (i64.const 1)))
  (func $double (type $unary) (i64.shl (local.get 0) (i64.const 1)))
  (func $slow (type $unary) (param $x i64) (result i64) (local $n i32)
    (local.set $n (i32.const 6))
    (loop $again
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 0x5851f42d4c957f2d)) (i64.shr_u (local.get $x) (i64.const 31))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  (func $twice (type $higher) (param $f (ref $unary)) (param $x i64) (result i64)
    (call_ref $unary (call_ref $unary (local.get $x) (local.get $f)) (local.get $f)))
  ;; A non-nullable local, set before use, and set anew in a loop.
  (func $thrice (type $higher) (param $f (ref $unary)) (param $x i64) (result i64)
    (local $g (ref $unary)) (local $n i32)
    (local.set $g (local.get $f))
    (local.set $n (i32.const 3))
    (loop $again
      (local.set $x (call_ref $unary (local.get $x) (local.get $g)))
      (local.set $g (select (result (ref $unary)) (global.get $current) (local.get $f) (i32.and (local.get $n) (i32.const 1))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  (func $choose (type $pick) (param $i i32) (result (ref null $unary))
    (drop (call $slow (i64.const 1)))
    (table.get $typed (i32.rem_u (local.get $i) (i32.const 6))))

  ;; Calls the slot's function when there is one; else counts a null. A reference waits on the operand stack beneath.
  (func $try (param $i i32) (param $x i64) (result i64)
    (block $null
      (call $choose (local.get $i))
      (drop (call $slow (local.get $x)))
      (br_on_null $null)
      (local.get $x)
      (call $swap)
      (return (call_ref $unary)))
    (i64.sub (local.get $x) (i64.const 1)))
  (func $swap (param (ref $unary) i64) (result i64 (ref $unary))
    (call $slow (local.get 1))
    (local.get 0))

  (func $try_other (param $i i32) (param $x i64) (result i64)
    (block $some (result (ref $unary))
      (br_on_non_null $some (call $choose (local.get $i)))
      (br_on_non_null $some (global.get $maybe))
      (return (i64.const 77)))
    (call $twice (local.get $x)))

  (func $change (param $i i32)
    (table.set $full (i32.and (local.get $i) (i32.const 3)) (ref.as_non_null (table.get $typed (i32.const 1))))
    (global.set $current (table.get $full (i32.and (i32.mul (local.get $i) (i32.const 3)) (i32.const 3))))
    (global.set $maybe (table.get $typed (i32.rem_u (local.get $i) (i32.const 6))))
    (if (i32.eqz (i32.rem_u (local.get $i) (i32.const 5)))
      (then
        (table.set $typed (i32.add (i32.const 3) (i32.rem_u (local.get $i) (i32.const 3))) (ref.func $slow))
        (table.set $typed (i32.const 1) (table.get $full (i32.and (local.get $i) (i32.const 3))))
        (table.fill $full (i32.const 0) (ref.func $slow) (i32.const 2)))))

  (func (export "run") (result i64) (local $i i32) (local $h i64) (local $f (ref $unary)) (local $p (ref null $higher))
    (local.set $f (ref.func $inc))
    (loop $again
      (local.set $p (select (result (ref null $higher)) (ref.func $twice) (ref.func $thrice) (i32.and (local.get $i) (i32.const 1))))
      (local.set $h (i64.add (call $try (local.get $i) (local.get $h)) (i64.const 11)))
      (local.set $h (i64.mul (call $try_other (local.get $i) (local.get $h)) (i64.const 31)))
      (call $change (local.get $i))
      (local.set $h (call_ref $higher (local.get $f) (local.get $h) (ref.as_non_null (local.get $p))))
      (local.set $f (global.get $current))
      (local.set $h (call_indirect $full (type $unary) (local.get $h) (i32.and (local.get $i) (i32.const 3))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 60))))
    (local.get $h)))
