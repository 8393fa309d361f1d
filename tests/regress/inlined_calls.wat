;; Functions that stand in place of recursive calls of them (cost model 6).
(module
  (memory 1)
  (type $unary (func (param i32) (result i32)))
  (table funcref (elem $sum $tree $even $hanoi))
  (tag $stop (param i32))
  (global $count (mut i32) (i32.const 0))

  ;; An operand of the caller lies beneath the call.
  (func $sum (param $n i32) (result i32) (local $zero i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
    (local.set $zero (i32.add (local.get $zero) (local.get $n)))
    (i32.add (local.get $n)
      (i32.add (local.get $zero) (call $sum (i32.sub (local.get $n) (i32.const 1))))))

  ;; Two calls, the second with what the first gave beneath; a local that has to be zero each time.
  (func $tree (param $n i32) (result i32) (local $calls i32) (local $f f64) (local $v v128)
    (local.set $f (f64.add (local.get $f) (f64.convert_i32_s (local.get $n))))
    (local.set $v (v128.or (local.get $v) (i32x4.splat (local.get $n))))
    (if (result i32) (i32.lt_s (local.get $n) (i32.const 1))
      (then (i32.const 1))
      (else
        (local.set $calls (i32.add (local.get $calls) (i32.const 1)))
        (i32.add
          (i32.add (call $tree (i32.sub (local.get $n) (i32.const 1))) (i32.trunc_sat_f64_s (local.get $f)))
          (i32.sub (call $tree (i32.sub (local.get $n) (i32.const 2)))
            (i32.add (local.get $calls) (i32x4.extract_lane 2 (local.get $v))))))))

  ;; Functions that call each other, with locals of other types.
  (func $even (param $n i32) (result i32) (local $m i64)
    (local.set $m (i64.extend_i32_u (local.get $n)))
    (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
    (i32.xor (call $odd (f64.convert_i32_s (i32.sub (local.get $n) (i32.const 1)))) (i32.wrap_i64 (local.get $m))))
  (func $odd (param $n f64) (result i32) (local $k i32)
    (block $out (br_if $out (f64.eq (local.get $n) (f64.const 0)))
      (local.set $k (i32.trunc_sat_f64_s (local.get $n)))
      (return (i32.add (local.get $k) (call $even (i32.sub (local.get $k) (i32.const 1))))))
    (local.get $k))

  ;; Calls within a loop, with a loop in the callee, and effects in memory and a global.
  (func $walk (param $depth i32) (param $at i32) (local $i i32)
    (br_if 0 (i32.eqz (local.get $depth)))
    (loop $l
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $i)))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (call $walk (i32.sub (local.get $depth) (i32.const 1)) (i32.add (local.get $at) (i32.const 4)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3)))))

  ;; A call whose callee throws past it, or is caught in the caller.
  (func $throws (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (throw $stop (i32.const 7))))
    (i32.add (i32.const 1) (call $throws (i32.sub (local.get $n) (i32.const 1)))))
  (func $catches (param $n i32) (result i32)
    (block $h (result i32)
      (try_table (result i32) (catch $stop $h)
        (if (i32.and (local.get $n) (i32.const 1)) (then (throw $stop (local.get $n))))
        (i32.add (local.get $n) (call $throws (i32.and (local.get $n) (i32.const 7)))))))

  ;; A trap in an inlined call, and a call through a reference.
  (func $hanoi (param $n i32) (result i32) (local $half i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $n) (i32.const 13)) (then (unreachable)))
    (local.set $half (call $hanoi (i32.sub (local.get $n) (i32.const 1))))
    (i32.add (local.get $half)
      (i32.add (i32.const 1)
        (call_indirect (type $unary) (i32.sub (local.get $n) (i32.const 1)) (i32.const 3)))))

  (func (export "sum") (param i32) (result i32) (call $sum (i32.and (local.get 0) (i32.const 255))))
  (func (export "tree") (param i32) (result i32) (call $tree (i32.rem_u (local.get 0) (i32.const 12))))
  (func (export "even") (param i32) (result i32) (call $even (i32.and (local.get 0) (i32.const 63))))
  (func (export "walk") (param i32) (result i32)
    (call $walk (i32.rem_u (local.get 0) (i32.const 7)) (i32.const 64))
    (i32.add (i32.load (i32.const 72)) (global.get $count)))
  (func (export "hanoi") (param i32) (result i32) (call $hanoi (i32.rem_u (local.get 0) (i32.const 15))))
  (func (export "catches") (param i32) (result i32) (call $catches (local.get 0)))
  (func (export "throws") (param i32) (result i32) (call $throws (i32.and (local.get 0) (i32.const 15)))))
