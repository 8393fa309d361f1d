;; What no loop writes is saved by one piece of code for points in different loops: numbers and vectors of all types, live all through, or until the
;; loop that reads them last; beside values that a loop writes, in loops one behind the other and within each other.
(module
  (global $seen (mut i64) (i64.const 1))
  (func $spin (param $n i32) (result i32)
    (local.set $n (i32.add (i32.and (local.get $n) (i32.const 3)) (i32.const 1)))
    (loop $again
      (global.set $seen (i64.add (i64.mul (global.get $seen) (i64.const 31)) (i64.extend_i32_u (local.get $n))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (i32.and (i32.wrap_i64 (global.get $seen)) (i32.const 7)))
  ;; How many passes a number takes is not known before.
  (func $next (param $n i32) (result i32)
    (if (result i32) (i32.and (local.get $n) (i32.const 1))
      (then (i32.add (i32.mul (local.get $n) (i32.const 3)) (i32.const 1)))
      (else (i32.shr_u (local.get $n) (i32.const 1)))))

  (func $in_turn (param $a i32) (param $b i64) (param $c f64) (param $d f32) (param $e v128) (result i64)
    (local $n i32) (local $sum i64) (local $real f64)
    (local.set $sum (local.get $b))
    (local.set $n (local.get $a))
    (loop $first
      (local.set $sum (i64.add (i64.xor (local.get $sum) (local.get $b)) (i64.extend_i32_u (call $spin (local.get $n)))))
      (local.set $n (call $next (local.get $n)))
      (br_if $first (i32.gt_u (local.get $n) (i32.const 1))))
    ;; The last that reads $b.
    (local.set $n (i32.add (local.get $a) (i32.const 2)))
    (loop $second
      (local.set $real (f64.add (f64.mul (local.get $real) (f64.const 0.5)) (local.get $c)))
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (local.get $b)) (i64.trunc_sat_f64_s (local.get $real))))
      (local.set $n (call $next (local.get $n)))
      (br_if $second (i32.gt_u (local.get $n) (i32.const 1))))
    (drop (call $spin (i32.wrap_i64 (local.get $sum))))
    ;; The last that reads $c and $d.
    (local.set $n (i32.add (local.get $a) (i32.const 4)))
    (loop $third
      (local.set $real (f64.add (local.get $real) (f64.mul (local.get $c) (f64.promote_f32 (local.get $d)))))
      (drop (call $spin (local.get $n)))
      (local.set $n (call $next (local.get $n)))
      (br_if $third (i32.gt_u (local.get $n) (i32.const 1))))
    (local.set $n (local.get $a))
    (loop $fourth
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 3)) (i64x2.extract_lane 1 (local.get $e))))
      (drop (call $spin (i32.add (local.get $n) (local.get $a))))
      (local.set $n (call $next (local.get $n)))
      (br_if $fourth (i32.gt_u (local.get $n) (i32.const 1))))
    (i64.add (i64.xor (local.get $sum) (i64x2.extract_lane 0 (local.get $e))) (i64.trunc_sat_f64_s (local.get $real))))

  (func $within (param $a i32) (param $b i64) (param $c f64) (param $d f32) (param $e v128) (result i64)
    (local $round i32) (local $n i32) (local $sum i64)
    (local.set $round (i32.const 3))
    (loop $rounds
      ;; Written by the outer loop alone, and by none within.
      (local.set $sum (i64.add (local.get $sum) (local.get $b)))
      (local.set $n (i32.add (local.get $round) (i32.const 5)))
      (loop $first
        (drop (call $spin (i32.wrap_i64 (local.get $sum))))
        (local.set $n (call $next (local.get $n)))
        (br_if $first (i32.gt_u (local.get $n) (i32.const 1))))
      (local.set $sum (i64.add (local.get $sum) (i64.trunc_sat_f64_s (f64.add (local.get $c) (f64.promote_f32 (local.get $d))))))
      (local.set $n (i32.add (local.get $round) (local.get $a)))
      (loop $second
        (if (i32.eqz (call $spin (local.get $n)))
          (then (loop $third
            (local.set $n (call $next (i32.or (local.get $n) (call $spin (local.get $a)))))
            (br_if $third (i32.lt_u (local.get $n) (i32.const 9))))))
        (local.set $n (i32.shr_u (local.get $n) (i32.const 1)))
        (br_if $second (local.get $n)))
      (local.set $sum (i64.add (local.get $sum) (i64x2.extract_lane 1 (local.get $e))))
      (local.set $round (i32.sub (local.get $round) (i32.const 1)))
      (br_if $rounds (local.get $round)))
    (i64.xor (local.get $sum) (global.get $seen)))

  (func (export "in_turn") (result i64)
    (call $in_turn (i32.const 6) (i64.const 0x1234567890) (f64.const 7.25) (f32.const 1.5) (v128.const i64x2 0x55 0x77777777777)))
  (func (export "within") (result i64)
    (call $within (i32.const 9) (i64.const 0x1234567890) (f64.const 7.25) (f32.const 1.5) (v128.const i64x2 0x55 0x77777777777))))
