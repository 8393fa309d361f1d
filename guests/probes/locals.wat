;; EXPECT: 6861908443379005407
;; Many locals of every number type, alive over calls at different times: some only before, some only after, some set in one
;; arm alone, some read after a loop they were set in, parameters overwritten; recursion with two calls a frame.
(module
  (global $count (mut i64) (i64.const 0))

  (func $spin (param $x i64) (param $n i32) (result i64)
    (loop $again
      (local.set $x (i64.add (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 3))) (i64.const 0x1234567)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (local.get $x))

  ;; Two recursive calls, the first result and locals of four types alive over the second.
  (func $tree (param $depth i32) (param $h i64) (param $f f32) (param $d f64) (result i64)
    (local $left i64) (local $i i32) (local $g f32) (local $e f64) (local $unused i64) (local $sometimes i64)
    (if (i32.eqz (local.get $depth))
      (then (return (i64.add (call $spin (local.get $h) (i32.const 2)) (i64.trunc_f64_s (f64.add (local.get $d) (f64.promote_f32 (local.get $f))))))))
    (local.set $i (i32.mul (local.get $depth) (i32.const 17)))
    (local.set $g (f32.add (local.get $f) (f32.const 0.5)))
    (local.set $e (f64.mul (local.get $d) (f64.const 1.0625)))
    (if (i32.and (local.get $depth) (i32.const 1))
      (then (local.set $sometimes (call $spin (local.get $h) (i32.const 1)))))
    (local.set $left (call $tree (i32.sub (local.get $depth) (i32.const 1)) (i64.add (local.get $h) (i64.const 1)) (local.get $g) (local.get $e)))
    ;; a parameter overwritten between the calls
    (local.set $h (i64.xor (local.get $h) (local.get $left)))
    (i64.add
      (i64.add (i64.mul (local.get $left) (i64.const 3)) (i64.extend_i32_s (local.get $i)))
      (i64.add
        (call $tree (i32.sub (local.get $depth) (i32.const 1)) (local.get $h) (f32.neg (local.get $g)) (local.get $e))
        (i64.add (local.get $sometimes)
          (i64.add (i64.trunc_f64_s (local.get $e)) (i64.extend_i32_s (i32.trunc_f32_s (local.get $g))))))))

  ;; Forty locals; a call between each write and its read.
  (func $wide (param $n i32) (result i64)
    (local $a0 i64) (local $a1 i64) (local $a2 i64) (local $a3 i64) (local $a4 i64) (local $a5 i64) (local $a6 i64) (local $a7 i64)
    (local $b0 i32) (local $b1 i32) (local $b2 i32) (local $b3 i32) (local $b4 i32) (local $b5 i32) (local $b6 i32) (local $b7 i32)
    (local $c0 f64) (local $c1 f64) (local $c2 f64) (local $c3 f64) (local $c4 f64) (local $c5 f64) (local $c6 f64) (local $c7 f64)
    (local $d0 f32) (local $d1 f32) (local $d2 f32) (local $d3 f32) (local $d4 f32) (local $d5 f32) (local $d6 f32) (local $d7 f32)
    (local $v0 v128) (local $v1 v128) (local $v2 v128) (local $v3 v128) (local $v4 v128) (local $v5 v128) (local $v6 v128) (local $v7 v128)
    (local.set $a0 (call $spin (i64.extend_i32_u (local.get $n)) (i32.const 2)))
    (loop $again
      (local.set $a1 (i64.add (local.get $a0) (local.get $a7)))
      (local.set $b0 (i32.wrap_i64 (local.get $a1)))
      (local.set $v0 (i64x2.splat (local.get $a1)))
      (local.set $a2 (call $spin (local.get $a1) (i32.const 1)))
      (local.set $c0 (f64.convert_i32_s (local.get $b0)))
      (local.set $b1 (i32.add (local.get $b0) (local.get $b7)))
      (local.set $v1 (i32x4.add (local.get $v0) (local.get $v7)))
      (local.set $a3 (call $spin (i64.xor (local.get $a2) (local.get $a0)) (i32.const 1)))
      (local.set $d0 (f32.convert_i32_u (i32.and (local.get $b1) (i32.const 0xffff))))
      (local.set $c1 (f64.add (local.get $c0) (f64.const 1)))
      (local.set $a4 (call $spin (local.get $a3) (i32.const 1)))
      (local.set $d1 (f32.add (local.get $d0) (f32.const 0.5)))
      (local.set $b2 (i32.xor (local.get $b1) (i32.trunc_f32_s (local.get $d1))))
      (local.set $v2 (v128.xor (local.get $v1) (f32x4.splat (local.get $d1))))
      (local.set $a5 (call $spin (i64.add (local.get $a4) (i64.extend_i32_u (local.get $b2))) (i32.const 1)))
      (local.set $c2 (f64.mul (local.get $c1) (f64.const 0.5)))
      (local.set $v3 (v128.xor (local.get $v2) (f64x2.splat (local.get $c2))))
      (local.set $d2 (f32.demote_f64 (f64.sqrt (f64.abs (local.get $c2)))))
      (local.set $a6 (call $spin (local.get $a5) (i32.const 1)))
      (local.set $b7 (i32.add (local.get $b2) (i32.trunc_sat_f32_s (local.get $d2))))
      (local.set $a7 (i64.add (i64.add (local.get $a6) (local.get $a1)) (i64.trunc_sat_f64_s (f64.add (local.get $c2) (local.get $c7)))))
      (local.set $c7 (f64.add (local.get $c1) (f64.promote_f32 (local.get $d7))))
      (local.set $d7 (f32.mul (local.get $d2) (f32.const 0.25)))
      (local.set $v7 (v128.xor (local.get $v3) (local.get $v2)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (i64.add (local.get $a7)
      (i64.xor (i64.extend_i32_s (local.get $b7))
        (i64.xor (i64x2.extract_lane 1 (local.get $v7)) (i64.xor (i64.reinterpret_f64 (local.get $c7)) (i64.extend_i32_u (i32.reinterpret_f32 (local.get $d7))))))))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (local.set $h (call $tree (i32.const 9) (i64.const 1) (f32.const 0.25) (f64.const 3)))
    (local.set $i (i32.const 20))
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $wide (local.get $i))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))
    (i64.xor (local.get $h) (global.get $count))))
