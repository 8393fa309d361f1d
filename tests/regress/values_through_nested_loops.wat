;; Values of all kinds of numbers that loops never write, and others that they do, restored right before a loop, further out, and at points inside.
(module
  (memory 1)
  (func $spin (param $n i32) (result i32) (local $k i32)
    (loop $l
      (local.set $k (i32.add (i32.mul (local.get $k) (i32.const 3)) (local.get $n)))
      (br_if $l (local.tee $n (i32.shr_u (local.get $n) (i32.const 1)))))
    (local.get $k))

  (func $nest (param $n i32) (result i32)
    (local $a i32) (local $b i64) (local $c f32) (local $d f64) (local $e v128)
    (local $i i32) (local $j i32) (local $s i32) (local $t i64) (local $u f64) (local $v v128)
    ;; Never written below.
    (local.set $a (call $spin (i32.const 9)))
    (local.set $b (i64.extend_i32_u (call $spin (i32.const 5))))
    (local.set $c (f32.reinterpret_i32 (i32.const 0x7fa00001)))
    (local.set $d (f64.reinterpret_i64 (i64.const 0x7ff4000000000001)))
    (local.set $e (i64x2.splat (i64.const 0x0123456789abcdef)))
    (local.set $i (local.get $n))
    (loop $outer
      (local.set $u (f64.convert_i32_s (local.get $i)))
      (local.set $v (i32x4.add (local.get $v) (local.get $e)))
      (local.set $j (i32.add (local.get $n) (i32.const 2)))
      (loop $inner
        (local.set $s (i32.add (local.get $s) (call $spin (i32.add (local.get $j) (local.get $a)))))
        (if (i32.and (local.get $j) (i32.const 1))
          (then
            (local.set $t (i64.add (i64.rotl (local.get $t) (i64.const 5)) (local.get $b)))
            (local.set $s (i32.xor (local.get $s) (i32.reinterpret_f32 (local.get $c)))))
          (else
            (local.set $v (i64x2.add (local.get $v) (local.get $e)))
            (loop $innermost
              (local.set $t (i64.xor (local.get $t) (i64.reinterpret_f64 (local.get $d))))
              (local.set $s (i32.add (local.get $s) (i32.trunc_sat_f64_s (local.get $u))))
              (br_if $innermost (i32.and (call $spin (local.get $s)) (i32.const 1))))))
        (br_if $inner (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))
      (br_if $outer (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (i32.add (local.get $s)
      (i32.add (i32.wrap_i64 (local.get $t)) (i32x4.extract_lane 1 (local.get $v)))))

  (func (export "entry nest") (result i32) (call $nest (i32.const 7)))
  (func (export "entry short") (result i32) (call $nest (i32.const 1)))
)
