;; The number of passes of these loops can be computed, and the guest traps before the last one: the fuel consumed is the same
;; whatever slices the guest ran in.
(module
  (memory 1)

  ;; Leaves the memory, from the 8193rd pass on.
  (func (export "stores") (param $n i32) (result i32) (local $i i32) (local $x i32)
    (loop $l
      (i64.store (i32.shl (local.get $i) (i32.const 3)) (i64.extend_i32_u (local.get $x)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $x))

  ;; Divides by zero in pass 900, counting down by 4, with numbers of 64 bits. Then it does so in another one, within a loop.
  (func (export "divides") (param $n i64) (result i64) (local $i i64) (local $x i64)
    (local.set $i (i64.shl (i64.and (local.get $n) (i64.const 0xffff)) (i64.const 2)))
    (loop $l
      (local.set $x (i64.add (local.get $x) (i64.div_u (i64.const 1000) (i64.sub (local.get $i) (i64.const 3600)))))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (br_if $l (i64.ne (local.tee $i (i64.sub (local.get $i) (i64.const 4))) (i64.const 0))))
    (local.get $x))

  ;; More passes than are charged for at once; sometimes the last ones divide by zero, and seldom does the counter miss its end.
  (func (export "long") (param $n i32) (result i32) (local $i i32) (local $x i32)
    (local.set $i (i32.const 3))
    (local.set $n (i32.add (i32.const 40001) (i32.mul (i32.const 2) (i32.and (local.get $n) (i32.const 0xfff)))))
    (loop $l
      (local.set $x (i32.add (local.get $x) (i32.div_u (i32.const 9) (i32.sub (i32.const 42001) (local.get $i)))))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 2))) (local.get $n))))
    (local.get $x))

  ;; The same down to a number, with 64 bits; the passes go on in a second loop, from where the first one has left.
  (func (export "long_down") (param $n i64) (result i64) (local $i i64) (local $x i64)
    (local.set $i (i64.add (i64.const 400016) (i64.shl (i64.and (local.get $n) (i64.const 0xfff)) (i64.const 3))))
    (loop $l
      (local.set $x (i64.add (local.get $x) (i64.div_u (i64.const 9) (i64.sub (local.get $i) (i64.const 432000)))))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (br_if $l (i64.ne (local.tee $i (i64.sub (local.get $i) (i64.const 8))) (i64.const -16))))
    (loop $l
      (local.set $x (i64.add (local.get $x) (i64.div_u (i64.const 9) (i64.add (local.get $i) (i64.const 300000)))))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $i)))
      (br_if $l (i64.ne (local.tee $i (i64.sub (local.get $i) (i64.const 1))) (i64.const -50000))))
    (i64.add (local.get $x) (local.get $i)))

  ;; With the end first in the comparison: a counter is looked at behind each pass.
  (func (export "long_turned") (param $n i32) (result i32) (local $i i32) (local $x i32)
    (local.set $n (i32.add (i32.const 40000) (i32.and (local.get $n) (i32.const 0xfff))))
    (loop $l
      (local.set $x (i32.add (local.get $x) (i32.div_u (i32.const 9) (i32.sub (i32.const 42001) (local.get $i)))))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 17)) (local.get $i)))
      (br_if $l (i32.ne (local.get $n) (local.tee $i (i32.add (local.get $i) (i32.const 1))))))
    (i32.add (local.get $x) (local.get $i))))
