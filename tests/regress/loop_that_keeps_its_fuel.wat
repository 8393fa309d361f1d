;; Innermost loops are left in every way: by branches, a table of them, a return, a tail call, an exception
;; caught inside and outside, and a trap in the middle of a pass. The fuel is the same after each.
(module
  (tag $t (param i32))
  (memory (export "memory") 1)
  (func $after (export "after") (param i32) (result i32)
    (local $n i32)
    (loop $again
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 5))))
    (i32.add (local.get 0) (local.get $n)))
  (func $leave (export "leave") (param $way i32) (result i32)
    (local $n i32)
    (local.set $way (i32.rem_u (local.get $way) (i32.const 8)))
    (block $out
      (block $caught (result i32)
        (try_table (catch $t $caught)
          (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 9)))
            (block $return
              (block $tail
                (block $throw
                  (block $inside
                    (block $trap
                      (block $divide
                        (br_table $out $again $return $tail $throw $inside $trap $divide
                          (select (local.get $way) (i32.const 0)
                            (i32.or (i32.ne (local.get $way) (i32.const 1))
                              (i32.lt_u (local.get $n) (i32.const 20))))))
                      (drop (i32.div_u (local.get $n) (i32.sub (local.get $n) (local.get $n)))))
                    (drop (i32.load (i32.mul (local.get $n) (i32.const 0x8000))))
                    (br_if $again (i32.lt_u (local.get $n) (i32.const 30)))
                    (br $out))
                  (block $here (result i32)
                    (try_table (catch $t $here) (throw $t (i32.const 1)))
                    (unreachable))
                  (local.set $n (i32.add (local.get $n)))
                  (br_if $again (i32.lt_u (local.get $n) (i32.const 25)))
                  (br $out))
                (throw $t (local.get $n)))
              (return_call $after (local.get $n)))
            (return (local.get $n))))
        (unreachable))
      (local.set $n (i32.add (i32.const 100))))
    (call $after (local.get $n)))
  ;; Loops in a loop, without calls and with one behind them.
  (func (export "nest") (param $n i32) (result i32)
    (local $i i32) (local $j i32) (local $sum i32)
    (local.set $n (i32.rem_u (local.get $n) (i32.const 30)))
    (loop $outer
      (local.set $j (i32.const 0))
      (loop $inner
        (i32.store (i32.shl (local.get $j) (i32.const 2)) (local.get $sum))
        (local.set $sum (i32.add (local.get $sum) (i32.xor (local.get $i) (local.get $j))))
        (br_if $inner
          (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (local.get $n))))
      (loop $second
        (local.set $sum (i32.rotl (local.get $sum) (i32.const 3)))
        (br_if $second (local.tee $j (i32.shr_u (local.get $j) (i32.const 1)))))
      (if (i32.and (local.get $i) (i32.const 1))
        (then (local.set $sum (call $leave (local.get $sum)))))
      (br_if $outer
        (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $sum)))
