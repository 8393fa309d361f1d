;; EXPECT: 301320
;; Casts of function references: ref.test, ref.cast, br_on_cast and br_on_cast_fail, with labels that are moved because
;; calls that loop stand around them.
(module
  (type $one (func (param i32) (result i32)))
  (type $two (func (param i32 i32) (result i32)))
  (table $t 2 funcref)
  (elem (table $t) (i32.const 0) func $inc $add)
  (func $spin (param $n i32) (result i32) (local $s i32)
    (loop $l (local.set $s (i32.add (local.get $s) (i32.const 1)))
      (br_if $l (i32.lt_s (local.get $s) (local.get $n))))
    (local.get $s))
  (func $inc (type $one) (i32.add (call $spin (local.get 0)) (i32.const 1)))
  (func $add (type $two) (i32.add (call $spin (local.get 0)) (local.get 1)))
  ;; Calls whatever it is given with what it takes.
  (func $apply (param $f funcref) (param $n i32) (result i32)
    (i32.const 1000)
    (block $no (result funcref)
      (block $is_one (result (ref $one))
        (br_on_cast_fail $no funcref (ref null $two)
          (br_on_cast $is_one funcref (ref $one) (local.get $f)))
        (call $spin (i32.const 3)) (drop)
        (local.set $f)
        (return (i32.add (i32.const 1000) (call_ref $two (local.get $n) (i32.const 5) (ref.cast (ref $two) (local.get $f)))))
      )
      (local.set $f)
      (return (i32.add (i32.const 1000) (call_ref $one (local.get $n) (ref.cast (ref $one) (local.get $f)))))
    )
    (drop) (drop) (i32.const 0))
  (func (export "run") (result i64) (local $i i32) (local $sum i64)
    (loop $l
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u
        (call $apply (table.get $t (i32.and (local.get $i) (i32.const 1))) (i32.const 7)))))
      (if (ref.test (ref $two) (table.get $t (i32.and (local.get $i) (i32.const 1))))
        (then (local.set $sum (i64.sub (local.get $sum) (i64.const 10)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 300))))
    (i64.add (local.get $sum) (i64.const -180))))
