;; EXPECT: 2336012437933205367
;; SIMD and relaxed SIMD. v128 values live in locals, globals, parameters, results and on the operand stack across calls
;; that loop. Relaxed instructions get only operands for which every allowed result is the same.
(module
  (memory 1)
  (data (i32.const 0) "\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f\10\f1\e2\d3\c4\b5\a6\97\88\79\6a\5b\4c\3d\2e\1f\10")
  (global $sum (mut v128) (v128.const i64x2 0x0123456789abcdef 0xfedcba9876543210))
  (global $key v128 (v128.const i32x4 0x9e3779b9 0x85ebca6b 0xc2b2ae35 0x27d4eb2f))

  ;; Adds `step` n times over: a loop with v128 locals.
  (func $spin (param $v v128) (param $step v128) (param $n i32) (result v128)
    (loop $again
      (local.set $v (i32x4.add (local.get $v) (local.get $step)))
      (local.set $v (v128.xor (local.get $v) (i64x2.shl (local.get $v) (i32.const 13))))
      (local.set $v (v128.xor (local.get $v) (i64x2.shr_u (local.get $v) (i32.const 7))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $v))

  ;; Two results of which one is a v128, and a v128 operand beneath both calls.
  (func $pair (param $v v128) (param $n i32) (result v128 i64)
    (call $spin (local.get $v) (global.get $key) (local.get $n))
    (i64x2.extract_lane 1 (call $spin (v128.not (local.get $v)) (global.get $key) (local.get $n))))

  (func $floats (param $n i32) (result v128) (local $x v128) (local $y v128)
    (local.set $x (f32x4.splat (f32.const 1.5)))
    (local.set $y (f64x2.splat (f64.const 0.25)))
    (loop $again
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (f32x4.splat (f32.const 0.5)))
                               (f32x4.convert_i32x4_s (i32x4.splat (local.get $n)))))
      (local.set $y (f64x2.sqrt (f64x2.add (f64x2.abs (local.get $y))
                                           (f64x2.promote_low_f32x4 (local.get $x)))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (v128.xor (local.get $x) (local.get $y)))

  ;; Bytes through memory: lane loads and stores, shuffles, saturation, comparisons, bit masks.
  (func $bytes (param $n i32) (result i64) (local $a v128) (local $b v128) (local $h i64)
    (local.set $a (v128.load (i32.const 0)))
    (local.set $b (v128.load (i32.const 16)))
    (loop $again
      (local.set $a (i8x16.shuffle 3 18 7 22 11 26 15 30 0 17 4 21 8 25 12 29 (local.get $a) (local.get $b)))
      (local.set $b (i8x16.add_sat_u (local.get $b) (i8x16.splat (local.get $n))))
      (local.set $b (i16x8.mul (local.get $b) (i16x8.extmul_high_i8x16_u (local.get $a) (local.get $b))))
      (v128.store (i32.const 32) (local.get $a))
      (local.set $a (v128.load8_lane 5 (i32.const 38) (local.get $a)))
      (v128.store16_lane 3 (i32.const 36) (local.get $b))
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31))
        (i64.extend_i32_u (i32.add (i8x16.bitmask (i8x16.gt_s (local.get $a) (local.get $b)))
                                   (i32x4.bitmask (i32x4.le_u (local.get $a) (v128.load32_zero (i32.const 34))))))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (i64.xor (local.get $h) (i64x2.extract_lane 0 (v128.bitselect (local.get $a) (local.get $b) (global.get $key)))))

  ;; Small whole numbers, full or empty masks, indexes in range, 7-bit factors: relaxed results cannot differ.
  (func $relaxed (param $n i32) (result v128) (local $x v128) (local $m v128) (local $out v128)
    (loop $again
      (local.set $x (f32x4.convert_i32x4_u (i32x4.splat (i32.and (local.get $n) (i32.const 63)))))
      (local.set $x (f32x4.relaxed_madd (local.get $x) (f32x4.splat (f32.const 4)) (f32x4.splat (f32.const 3))))
      (local.set $x (f32x4.relaxed_max (local.get $x) (f32x4.splat (f32.const 9))))
      (local.set $m (i32x4.relaxed_trunc_f32x4_s (local.get $x)))
      (local.set $out (i8x16.relaxed_laneselect (i32x4.add (local.get $out) (local.get $m)) (global.get $key)
                                                (v128.const i32x4 -1 -1 0 -1)))
      (local.set $out (i8x16.relaxed_swizzle (local.get $out)
                        (v128.const i8x16 1 0 3 2 5 4 7 6 9 8 11 10 13 12 15 14)))
      (local.set $out (i32x4.relaxed_dot_i8x16_i7x16_add_s (v128.and (local.get $out) (i8x16.splat (i32.const 0x3f)))
                        (v128.const i8x16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) (local.get $m)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $out))

  (func (export "run") (result i64) (local $i i32) (local $v v128) (local $h i64)
    (local.set $v (v128.load (i32.const 0)))
    (local.set $i (i32.const 40))
    (loop $again
      ;; v128 and f64 operands wait beneath the calls.
      (global.get $sum)
      (f64.const 2.5)
      (call $pair (local.get $v) (i32.add (local.get $i) (i32.const 3)))
      (local.set $h (i64.add (local.get $h)))
      (local.set $v)
      (f64.convert_i32_s (local.get $i))
      (f64.mul)
      (i64.trunc_f64_s)
      (i64x2.splat)
      (i64x2.add)
      (v128.xor (call $floats (local.get $i)))
      (global.set $sum (i64x2.add (call $relaxed (local.get $i))))
      (local.set $h (i64.add (i64.rotl (local.get $h) (i64.const 5)) (call $bytes (local.get $i))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))
    (i64.xor (local.get $h)
      (i64.xor (i64x2.extract_lane 0 (global.get $sum)) (i64x2.extract_lane 1 (i64x2.add (global.get $sum) (local.get $v)))))))
