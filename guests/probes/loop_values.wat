;; EXPECT: 2351108515683248190
;; br_if and br that carry values out of loops, out of several loops at once, and back to headers with parameters; loops whose
;; body never ends but by such a branch; code after unconditional branches; loops that turn exactly once.
(module
  (func $spin (param $x i64) (param $n i32) (result i64)
    (loop $again
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 0x2545f4914f6cdd1d)) (i64.shr_u (local.get $x) (i64.const 17))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  ;; The smallest number above n whose spun value ends in five zero bits; the value leaves two loops at once.
  (func $find (param $n i64) (result i64 i32) (local $turns i32)
    (block $found (result i64 i32)
      (loop $outer
        (local.set $n (i64.add (local.get $n) (i64.const 100)))
        (loop $inner
          (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (local.get $n)
          (local.get $turns)
          (br_if $found (i64.eqz (i64.and (call $spin (local.get $n) (i32.const 2)) (i64.const 31))))
          (drop)
          (drop)
          (br_if $inner (i32.and (local.get $turns) (i32.const 7))))
        (br $outer))
      (unreachable)))

  ;; Greatest common divisor with the pair on the operand stack, through the loop's parameters.
  (func $gcd (param $a i64) (param $b i64) (result i64)
    (local.get $a) (local.get $b)
    (loop $again (param i64 i64) (result i64)
      (local.set $b)
      (local.set $a)
      (drop (call $spin (local.get $a) (i32.const 1)))
      (if (i64.eqz (local.get $b)) (then (return (local.get $a))))
      (local.get $b)
      (i64.rem_u (local.get $a) (local.get $b))
      (br $again)
      ;; never reached, but checked: polymorphic stack
      (i64.add)
      (call $spin (i32.const 2))))

  ;; A loop that turns once, in a loop that always leaves by a value, in a block.
  (func $once (param $n i32) (result i64)
    (block $out (result i64)
      (loop $never_back (result i64)
        (loop (result i64) (call $spin (i64.extend_i32_u (local.get $n)) (i32.const 3)))
        (br_if $out (i32.and (local.get $n) (i32.const 1)))
        (i64.add (i64.const 1000))
        (br $out))
      (drop)
      (i64.const -1)))

  ;; A sum by f64 and a count by i32 ride on the stack over the back edge; br_if keeps them when not taken.
  (func $series (param $n i32) (result f64)
    (f64.const 0) (local.get $n)
    (loop $again (param f64 i32) (result f64 i32)
      (local.set $n)
      (f64.add (f64.div (f64.const 1) (f64.convert_i64_u (i64.and (call $spin (i64.extend_i32_u (local.get $n)) (i32.const 1)) (i64.const 0xffff)))))
      (local.get $n)
      (i32.sub (i32.const 1))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 1))))
    (drop))

  (func (export "run") (result i64) (local $i i32) (local $h i64) (local $t i32)
    (local.set $i (i32.const 1))
    (loop $again
      (call $find (local.get $h))
      (local.set $t)
      (local.set $h (i64.add (i64.mul (i64.extend_i32_u (local.get $t)) (i64.const 31))))
      (local.set $h (i64.add (local.get $h) (call $gcd (i64.mul (call $spin (local.get $h) (i32.const 1)) (i64.const 2)) (i64.mul (i64.extend_i32_u (local.get $i)) (i64.const 360360)))))
      (local.set $h (i64.xor (local.get $h) (call $once (local.get $i))))
      (local.set $h (i64.add (local.get $h) (i64.reinterpret_f64 (call $series (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 40))))
    (local.get $h)))
