;; Functions that check behind their ways out, and not at their entry or at a loop's header (cost model 4).
(module
  (memory 1)
  (type $unary (func (param i32) (result i32)))
  (table funcref (elem $ackermann $walk $arms $switch $through))
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 64) "\50\00\00\00\07\00\00\00" "\00\00\00\00\00\00\00\00" "\60\00\00\00\09\00\00\00"
    "\00\00\00\00\00\00\00\00" "\70\00\00\00\02\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\01\00\00\00")

  ;; One way out, and two calls that need one check.
  (func $ackermann (param $m i32) (param $n i32) (result i32)
    (if (i32.eqz (local.get $m)) (then (return (i32.add (local.get $n) (i32.const 1)))))
    (if (i32.eqz (local.get $n))
      (then (return (call $ackermann (i32.sub (local.get $m) (i32.const 1)) (i32.const 1)))))
    (call $ackermann
      (i32.sub (local.get $m) (i32.const 1))
      (call $ackermann (local.get $m) (i32.sub (local.get $n) (i32.const 1)))))

  ;; A list: the loop is left before its check, and what is called behind it is checked for there.
  (func $walk (param $at i32) (result i32) (local $next i32) (local $sum i32)
    (block $out
      (loop $l
        (br_if $out (i32.eqz (local.tee $next (i32.load (local.get $at)))))
        (local.set $sum
          (i32.add (local.get $sum) (call $ackermann (i32.const 1) (i32.load offset=4 (local.get $at)))))
        (local.set $at (local.get $next))
        (br $l)))
    (if (i32.and (local.get $sum) (i32.const 1))
      (then (local.set $sum (call $ackermann (i32.const 2) (local.get $sum)))))
    (local.get $sum))

  ;; A way to a call each, and one to none. What is written before, is not read by a frame at the entry.
  (func $arms (param $n i32) (result i32) (local $k i32) (local $sum i32)
    (local.set $k (i32.rem_u (local.get $n) (i32.const 4)))
    (block $three
      (block $two
        (block $one
          (block $none
            (br_table $none $one $two $three (local.get $k)))
          (i32.store (i32.const 0) (local.get $n))
          (return (i32.load offset=4 (i32.const 0))))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (return (i32.add (call $arms (local.get $n)) (local.get $k))))
      (i32.store (i32.const 4) (local.get $k))
      (local.set $sum (call $arms (i32.sub (local.get $n) (i32.const 1))))
      (return (i32.add (local.get $sum) (call $arms (i32.sub (local.get $n) (i32.const 2))))))
    (i32.mul (i32.add (local.get $k) (i32.const 3)) (call $arms (i32.sub (local.get $n) (i32.const 1)))))

  ;; As compilers make it of `f(l) + f(r)`: a loop that is left by a table, to ways that call and one that does not.
  (func $switch (param $n i32) (result i32) (local $sum i32) (local $k i32)
    (block $product
      (block $leaf
        (loop $l
          (block $sum
            (br_if $sum (i32.eq (local.tee $k (i32.rem_u (local.get $n) (i32.const 3))) (i32.const 1)))
            (br_table $leaf $leaf $product (local.get $k)))
          (local.set $sum (i32.add (local.get $sum) (call $switch (i32.div_u (local.get $n) (i32.const 2)))))
          (local.set $n (i32.div_u (local.get $n) (i32.const 3)))
          (br $l)))
      (return (i32.add (local.get $n) (local.get $sum))))
    (i32.add (local.get $sum)
      (i32.mul (call $switch (i32.div_u (local.get $n) (i32.const 4))) (call $switch (i32.div_u (local.get $n) (i32.const 5))))))

  ;; Through references, with an operand beneath the call, and one beneath the loop that leaves before its check.
  (func $through (param $n i32) (result i32) (local $k i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.add
      (i32.mul (local.get $n) (i32.const 7))
      (block $out (result i32)
        (i32.const 5)
        (loop $l
          (br_if $out (i32.const 3) (i32.eqz (local.tee $k (i32.and (local.get $n) (i32.const 7)))))
          (drop)
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (local.set $k (i32.sub (local.get $k) (call_indirect (type $unary) (local.get $k) (i32.const 2))))
          (br $l))
        (drop) (i32.const 0))))

  ;; A loop without calls, and nothing else to check for.
  (func $length (param $at i32) (result i32) (local $n i32)
    (block $out
      (loop $l
        (br_if $out (i32.eqz (i32.load8_u (i32.add (local.get $at) (local.get $n)))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $l)))
    (local.get $n))

  ;; It traps before it comes to a check, deep in a recursion.
  (func $ends (param $n i32) (result i32)
    (if (i32.eqz (i32.load (i32.sub (i32.mul (local.get $n) (i32.const 4)) (i32.const 8)))) (then (return (i32.const 1))))
    (i32.add (call $length (i32.const 64)) (call $ends (i32.sub (local.get $n) (i32.const 1)))))

  (func (export "entry ackermann") (result i32) (call $ackermann (i32.const 2) (i32.const 5)))
  (func (export "entry walk") (result i32) (i32.add (call $walk (i32.const 64)) (call $walk (i32.const 80))))
  (func (export "entry arms") (result i32) (call $arms (i32.const 13)))
  (func (export "entry switch") (result i32) (call $switch (i32.const 30011)))
  (func (export "entry through") (result i32)
    (i32.add (call $through (i32.const 6)) (call_indirect (type $unary) (i32.const 5) (i32.const 4))))
  (func (export "entry ends") (result i32)
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 200))
    (call $ends (i32.const 30))))
