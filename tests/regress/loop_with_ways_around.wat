;; Innermost loops with blocks in them: ways around a part of the body, ways out from inside of blocks, values that blocks take and
;; give, a table of ways, and (in `back`) a way to the header from the middle. Their copies must go on one into the other.
(module
  (memory (export "memory") 1)
  (func (export "around") (param $n i32) (result i32)
    (local $i i32) (local $sum i32)
    (local.set $n (i32.rem_u (local.get $n) (i32.const 70)))
    (loop $again
      (if (i32.and (local.get $i) (i32.const 1))
        (then (local.set $sum (i32.add (local.get $sum) (local.get $i))))
        (else (local.set $sum (i32.xor (local.get $sum) (i32.shl (local.get $i) (i32.const 3))))))
      (block $skip
        (br_if $skip (i32.lt_u (local.get $sum) (i32.const 100)))
        (i32.store (i32.and (local.get $sum) (i32.const 0xfffc)) (local.get $i)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (i32.add (local.get $sum) (i32.load (i32.and (local.get $sum) (i32.const 0xfffc)))))
  (func (export "out") (param $n i32) (result i32)
    (local $i i32) (local $sum i32)
    (local.set $n (i32.rem_u (local.get $n) (i32.const 90)))
    (i32.const 1000)
    (block $done (result i32)
      (loop $again (result i32)
        (local.set $sum
          (i32.add (local.get $sum)
            (block $value (result i32)
              (drop (br_if $value (i32.const 7) (i32.eqz (i32.rem_u (local.get $i) (i32.const 3)))))
              (block $one
                (block $two
                  (block $three
                    (br_table $one $two $three (i32.rem_u (local.get $i) (i32.const 5))))
                  (drop (br_if $done (local.get $sum) (i32.gt_u (local.get $i) (i32.const 61)))))
                (br $value (i32.const 11)))
              (if (result i32) (i32.gt_u (local.get $i) (local.get $n))
                (then (return (i32.add (local.get $sum) (local.get $n))))
                (else (local.get $i))))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 80)))
        (local.get $i)))
    (i32.add))
  (func (export "back") (param $n i32) (result i32)
    (local $i i32) (local $sum i32)
    (local.set $n (i32.rem_u (local.get $n) (i32.const 50)))
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (block $on
        (br_if $on (i32.and (local.get $i) (i32.const 3)))
        (br_if $again (i32.lt_u (local.get $i) (local.get $n))))
      (local.set $sum (i32.add (local.get $sum) (local.get $i)))
      (br_if $again (i32.lt_u (local.get $i) (local.get $n))))
    (local.get $sum))
  ;; A loop that goes on by a table: back to the header from everywhere, on, out, and with a value.
  (func (export "table") (param $n i32) (result i32)
    (local $at i32) (local $steps i32) (local $sum i32)
    (local.set $at (i32.rem_u (local.get $n) (i32.const 11)))
    (block $halt
      (loop $next
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (br_if $halt (i32.gt_u (local.get $steps) (i32.const 300)))
        (block $d
          (block $c
            (block $b
              (block $a
                (br_table $a $b $c $d $next $halt (i32.rem_u (local.get $at) (i32.const 6))))
              (local.set $at (i32.add (local.get $at) (i32.const 7)))
              (br $next))
            (local.set $sum (i32.add (local.get $sum) (local.get $at)))
            (local.set $at (i32.mul (local.get $at) (i32.const 3)))
            (br_if $next (i32.and (local.get $sum) (i32.const 1)))
            (local.set $at (i32.xor (local.get $at) (i32.const 5)))
            (br $next))
          (i32.store (i32.and (local.get $at) (i32.const 0xff)) (local.get $sum))
          (br_if $next (i32.eqz (i32.rem_u (local.get $steps) (i32.const 4))))
          (local.set $at (i32.add (local.get $at) (local.get $steps))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $halt (i32.gt_u (local.get $at) (i32.const 0x7fffff)))
        (br $next)))
    (i32.add (local.get $sum) (i32.add (local.get $at) (local.get $steps)))))
