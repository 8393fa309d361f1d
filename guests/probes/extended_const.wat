;; EXPECT: -941923223575256265
;; Extended constant expressions in globals, data and element offsets; global.get of earlier globals in them. The values are
;; computed again in loops and must agree (1 is added to the result for each that does not: none).
(module
  (global $base i32 (i32.const 64))
  (global $scaled i32 (i32.add (i32.mul (global.get $base) (i32.const 3)) (i32.const 8)))
  (global $long i64 (i64.sub (i64.mul (i64.const 1000000007) (i64.const 998244353)) (i64.const 42)))
  (global $mutable (mut i64) (i64.add (global.get $long) (i64.const 1)))
  (memory 1)
  (table 16 funcref)
  (data (i32.sub (global.get $scaled) (i32.const 10)) "extended constants")
  (elem (offset (i32.sub (i32.mul (global.get $base) (i32.const 1)) (i32.const 60))) func $x $y)
  (type $f (func (param i32) (result i64)))

  ;; 64 * 3 + 8 by repeated addition.
  (func $x (type $f) (param $n i32) (result i64) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.const 3)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (i64.extend_i32_u (i32.add (local.get $sum) (i32.const 8))))
  ;; The sum of the bytes at $scaled - 10.
  (func $y (type $f) (param $n i32) (result i64) (local $sum i64)
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
        (i64.load8_u (i32.add (i32.sub (global.get $scaled) (i32.const 10)) (local.get $n)))))
      (br_if $again (local.get $n)))
    (local.get $sum))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (local.set $i (i32.const 40))
    (loop $again
      (local.set $h (i64.add (local.get $h)
        (i64.extend_i32_u (i64.ne (call_indirect (type $f) (i32.const 64) (i32.const 4)) (i64.extend_i32_u (global.get $scaled))))))
      (local.set $h (i64.xor (i64.mul (local.get $h) (i64.const 1000003)) (call_indirect (type $f) (i32.const 18) (i32.const 5))))
      (global.set $mutable (i64.add (i64.mul (global.get $mutable) (i64.const 3)) (i64.extend_i32_u (local.get $i))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))
    (i64.add (local.get $h) (i64.xor (global.get $mutable) (global.get $long)))))
