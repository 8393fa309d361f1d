;; Loops that are passed a known number of times, and are no suspension points (cost model 5), among what is.
(module
  (memory 1)
  (global $sum (mut i32) (i32.const 1))
  (data (i32.const 0) "0123456789abcdefghijklmnopqrstuvwxyz")

  (func $mix (param $n i32)
    (global.set $sum (i32.add (i32.mul (global.get $sum) (i32.const 31)) (local.get $n))))

  ;; In a loop that is a suspension point, one that goes on by a condition, downwards.
  (func $rounds (param $blocks i32) (result i32) (local $i i32) (local $a i32) (local $b i32)
    (local.set $a (i32.const 0x67452301))
    (local.set $b (local.get $blocks))
    (loop $block
      (local.set $i (i32.const 16))
      (loop $round
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 5)) (i32.load8_u (local.get $i))))
        (if (i32.and (local.get $a) (i32.const 4)) (then (local.set $b (i32.xor (local.get $b) (local.get $a)))))
        (br_if $round (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (br_if $block (local.tee $blocks (i32.sub (local.get $blocks) (i32.const 1)))))
    (i32.add (local.get $a) (local.get $b)))

  ;; One in another, left from within, with an operand beneath; what calls is around them.
  (func $rows (param $n i32) (result i32) (local $i i32) (local $k i32)
    (call $mix (local.get $n))
    (i32.add
      (local.get $n)
      (block $out (result i32)
        (local.set $i (i32.const 0))
        (loop $row
          (local.set $k (i32.const 10))
          (loop $column
            (drop (br_if $out (local.get $k)
              (i32.eq (i32.load8_u (i32.add (local.get $i) (local.get $k))) (i32.and (local.get $n) (i32.const 127)))))
            (local.set $k (i32.add (local.get $k) (i32.const 2)))
            (br_if $column (i32.lt_u (local.get $k) (i32.const 20))))
          (local.set $i (i32.add (local.get $i) (i32.const 3)))
          (br_if $row (i32.ne (local.get $i) (i32.const 15))))
        (call $recurse (i32.and (local.get $n) (i32.const 3))))))

  ;; Before and behind calls of a recursive function, which checks behind its way out.
  (func $recurse (param $n i32) (result i32) (local $i i32) (local $s i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 7))))
    (local.set $i (i32.const -4))
    (loop $l
      (local.set $s (i32.add (local.get $s) (local.get $n)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_s (local.get $i) (i32.const 0))))
    (local.set $s (i32.add (local.get $s) (call $recurse (i32.sub (local.get $n) (i32.const 1)))))
    (local.set $i (i32.const 0))
    (block $out
      (loop $l
        (br_if $out (i32.ge_u (local.get $i) (i32.const 6)))
        (local.set $s (i32.xor (local.get $s) (i32.load8_u (i32.add (local.get $i) (local.get $s)))))
        (local.set $s (i32.and (local.get $s) (i32.const 1023)))
        (local.set $i (i32.add (local.get $i) (i32.const 2)))
        (br $l)))
    (local.get $s))

  ;; One in a loop whose body stands several times in the code.
  (func $short (param $n i32) (result i32) (local $i i32) (local $s i32)
    (loop $l
      (local.set $i (i32.const 0))
      (loop $twice
        (local.set $s (i32.add (local.get $s) (local.get $n)))
        (br_if $twice (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))

  ;; Long ones, up to what a local is, and down from it; the first from an operand beneath it. They are charged at once if there is fuel.
  (func $range (param $from i32) (param $to i32) (result i32) (local $i i32) (local $a i32) (local $w i64)
    (local.set $i (local.get $from))
    (i32.sub
      (local.get $from)
      (block (result i32)
        (local.get $to)
        (loop $l
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 1)) (i32.load8_u offset=3 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 2)) (i32.load8_u offset=6 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 3)) (i32.load8_u offset=9 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 4)) (i32.load8_u offset=12 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 5)) (i32.load8_u offset=15 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 6)) (i32.load8_u offset=18 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 7)) (i32.load8_u offset=21 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 8)) (i32.load8_u offset=24 (local.get $i))))
          (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 2))) (local.get $to))))
        (i32.add (local.get $a))))
    (local.set $w (i64.extend_i32_u (local.get $to)))
    (local.set $i (i32.const 3))
    (block $out
      (loop $l
        (br_if $out (i64.eq (local.get $w) (i64.const 2)))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 1)) (i32.load8_u offset=3 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 2)) (i32.load8_u offset=6 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 3)) (i32.load8_u offset=9 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 4)) (i32.load8_u offset=12 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 5)) (i32.load8_u offset=15 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 6)) (i32.load8_u offset=18 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 7)) (i32.load8_u offset=21 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 8)) (i32.load8_u offset=24 (local.get $i))))
        (local.set $w (i64.add (local.get $w) (i64.const -1)))
        (br $l)))
    (i32.add (local.get $a)))

  ;; Its end is stepped over: only what is around it ends it.
  (func $past (param $n i32) (result i32) (local $i i32) (local $a i32)
    (loop $l
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 1)) (i32.load8_u offset=3 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 2)) (i32.load8_u offset=6 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 3)) (i32.load8_u offset=9 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 4)) (i32.load8_u offset=12 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 5)) (i32.load8_u offset=15 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 6)) (i32.load8_u offset=18 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 7)) (i32.load8_u offset=21 (i32.and (local.get $i) (i32.const 31)))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 8)) (i32.load8_u offset=24 (i32.and (local.get $i) (i32.const 31)))))
      (i32.store offset=64 (local.get $i) (local.get $a))
      (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 128))) (local.get $n))))
    (local.get $a))

  (func (export "entry range") (result i32)
    (i32.add (call $range (i32.const 4) (i32.const 10)) (call $range (i32.const 4) (i32.const 60))))
  ;; Two ways out: how often it is passed cannot be told.
  (func $out (param $n i32) (result i32) (local $i i32) (local $a i32)
    (block $out
      (loop $l
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 1)) (i32.load8_u offset=3 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 2)) (i32.load8_u offset=6 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 3)) (i32.load8_u offset=9 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 4)) (i32.load8_u offset=12 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 5)) (i32.load8_u offset=15 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 6)) (i32.load8_u offset=18 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 7)) (i32.load8_u offset=21 (local.get $i))))
        (local.set $a (i32.add (i32.rotl (local.get $a) (i32.const 8)) (i32.load8_u offset=24 (local.get $i))))
        (br_if $out (i32.gt_u (i32.and (local.get $a) (i32.const 15)) (i32.const 13)))
        (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n)))))
    (i32.add (local.get $a) (local.get $i)))

  (func (export "entry out") (result i32) (i32.add (call $out (i32.const 9)) (call $out (i32.const 30))))
  (func (export "entry past") (result i32) (call $past (i32.const 130)))
  (func (export "entry rounds") (result i32) (call $rounds (i32.const 40)))
  (func (export "entry rows") (result i32) (local $i i32) (local $s i32)
    (local.set $i (i32.const 30))
    (loop $l
      (local.set $s (i32.add (local.get $s) (call $rows (i32.add (local.get $i) (i32.const 40)))))
      (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (i32.xor (local.get $s) (global.get $sum)))
  (func (export "entry short and recurse") (result i32) (i32.add (call $short (i32.const 200)) (call $recurse (i32.const 40)))))
