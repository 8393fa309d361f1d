;; EXPECT: 3508405140585048703
;; Tail calls of all three kinds: even/odd to a million, a state machine through a table, continuations by reference, with
;; tail calls to functions of more and of fewer parameters, out of nested blocks, and with ordinary calls in between.
(module
  (type $step (func (param i32 i64) (result i64)))
  (type $wide (func (param i64 f64 i32 i64 f32 i64 i32 i64 i64 i64 i32) (result i64)))
  (type $after (func (param i64) (result i64)))
  (table 4 funcref)
  (elem (i32.const 0) $red $green $blue $red)
  (elem declare func $finish $refine $even $odd)

  (func $even (param $n i32) (param $h i64) (result i64)
    (if (i32.eqz (local.get $n)) (then (return (local.get $h))))
    (return_call $odd (i32.sub (local.get $n) (i32.const 1)) (i64.add (local.get $h) (i64.const 3))))
  (func $odd (param $n i32) (param $h i64) (result i64)
    (if (result i64) (i32.eqz (local.get $n))
      (then (i64.xor (local.get $h) (i64.const -1)))
      (else (return_call $even (i32.sub (local.get $n) (i32.const 1)) (i64.rotl (local.get $h) (i64.const 1))))))

  (func $spin (param $n i32) (result i64) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 33)) (i64.extend_i32_u (local.get $n))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (local.get $h))

  ;; A state machine: each state names the next by table index.
  (func $red (type $step) (param $n i32) (param $h i64) (result i64)
    (if (i32.eqz (local.get $n)) (then (return (local.get $h))))
    (return_call_indirect (type $step) (i32.sub (local.get $n) (i32.const 1))
      (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $spin (i32.const 2)))
      (i32.rem_u (local.get $n) (i32.const 3))))
  (func $green (type $step) (param $n i32) (param $h i64) (result i64)
    (block $leave
      (loop $look
        (br_if $leave (i64.lt_u (local.get $h) (i64.const 0x1000000)))
        (local.set $h (i64.shr_u (local.get $h) (i64.const 3)))
        (br $look)))
    (if (i32.eqz (local.get $n)) (then (return (local.get $h))))
    (return_call_indirect (type $step) (i32.sub (local.get $n) (i32.const 1)) (i64.xor (local.get $h) (i64.const 0xabcdef)) (i32.const 2)))
  (func $blue (type $step) (param $n i32) (param $h i64) (result i64)
    (if (i32.eqz (local.get $n)) (then (return (i64.xor (local.get $h) (i64.const 5)))))
    (return_call $widen (local.get $h) (f64.convert_i32_u (local.get $n)) (local.get $n) (i64.const 4) (f32.const 1.5)
      (i64.const 6) (i32.const 7) (i64.const 8) (local.get $h) (i64.const 10) (i32.const 0)))
  ;; Eleven parameters, back to two.
  (func $widen (type $wide) (param $a i64) (param $b f64) (param $c i32) (param $d i64) (param $e f32) (param $f i64)
    (param $g i32) (param $h i64) (param $i i64) (param $j i64) (param $k i32) (result i64)
    (if (i32.lt_u (local.get $k) (i32.const 3))
      (then (return_call $widen (local.get $j) (f64.mul (local.get $b) (f64.const 1.5)) (local.get $c) (local.get $a)
        (f32.add (local.get $e) (f32.const 1)) (local.get $d) (local.get $g) (local.get $f) (local.get $h) (local.get $i)
        (i32.add (local.get $k) (i32.const 1)))))
    (return_call_indirect (type $step) (i32.sub (local.get $c) (i32.const 1))
      (i64.add (i64.add (local.get $a) (i64.mul (local.get $d) (i64.const 3)))
        (i64.add (i64.trunc_f64_s (f64.add (local.get $b) (f64.promote_f32 (local.get $e))))
          (i64.xor (local.get $f) (i64.add (local.get $h) (i64.add (local.get $i) (local.get $j))))))
      (i32.and (local.get $g) (i32.const 0))))

  ;; Continuation-passing: the rest of the work is a reference.
  (func $sum (param $n i32) (param $h i64) (param $then (ref $after)) (result i64)
    (if (i32.eqz (local.get $n)) (then (return_call_ref $after (local.get $h) (local.get $then))))
    (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 10)))
      (then (local.set $h (i64.add (local.get $h) (call_ref $after (i64.extend_i32_u (local.get $n)) (local.get $then))))))
    (return_call $sum (i32.sub (local.get $n) (i32.const 1)) (i64.add (local.get $h) (i64.extend_i32_u (local.get $n))) (local.get $then)))
  (func $finish (type $after) (param $h i64) (result i64)
    (i64.add (local.get $h) (call $spin (i32.const 3))))
  (func $refine (type $after) (param $h i64) (result i64)
    (return_call_ref $after (i64.mul (local.get $h) (i64.const 7)) (ref.func $finish)))

  (func (export "run") (result i64) (local $h i64) (local $n i32)
    (local.set $h (i64.add (call $even (i32.const 1000000) (i64.const 1)) (call $even (i32.const 1001) (i64.const 2))))
    (loop $again
      (i64.rotl (local.get $h) (i64.const 23))
      (call_indirect (type $step) (local.get $n) (local.get $h) (i32.and (local.get $n) (i32.const 3)))
      (local.set $h (i64.add))
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $sum (i32.add (local.get $n) (i32.const 15)) (local.get $h)
        (select (result (ref $after)) (ref.func $finish) (ref.func $refine) (i32.and (local.get $n) (i32.const 1))))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 60))))
    (local.get $h)))
