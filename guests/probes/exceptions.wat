;; EXPECT: 4224362572255261737
;; Guest exceptions: try_table with all four kinds of catch, payloads of every number type and v128, exnrefs in locals
;; that live across calls that loop, rethrow through several frames, throws inside loops, catches to outer labels.
(module
  (type $step (func (param i32) (result i64)))
  (tag $empty)
  (tag $int (param i32))
  (tag $wide (param i64 f64))
  (tag $all (param i32 i64 f32 f64 v128))
  (tag $ref (param funcref i32))
  (global $log (mut i64) (i64.const 7))
  (table 2 funcref)
  (elem (i32.const 0) $spin_a $spin_b)

  (func $note (param $what i64)
    (global.set $log (i64.add (i64.mul (global.get $log) (i64.const 1000003)) (local.get $what))))

  (func $spin (param $n i32) (result i64) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 33)) (i64.extend_i32_u (local.get $n))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (local.get $h))
  (func $spin_a (param i32) (result i64) (call $spin (local.get 0)))
  (func $spin_b (param i32) (result i64) (i64.xor (call $spin (i32.add (local.get 0) (i32.const 2))) (i64.const -1)))

  ;; Throws a tag that depends on n, after work.
  (func $thrower (param $n i32)
    (call $note (call $spin (i32.add (i32.const 3) (i32.rem_u (local.get $n) (i32.const 5)))))
    (block $d (block $c (block $b (block $a
      (br_table $a $b $c $d (i32.rem_u (local.get $n) (i32.const 5))))
      (throw $empty))
      (throw $int (i32.mul (local.get $n) (i32.const 17))))
      (throw $wide (i64.extend_i32_s (local.get $n)) (f64.mul (f64.convert_i32_s (local.get $n)) (f64.const 1.25))))
    (if (i32.eq (i32.rem_u (local.get $n) (i32.const 5)) (i32.const 4)) (then (return)))
    (throw $all (local.get $n) (i64.extend_i32_s (i32.sub (i32.const 0) (local.get $n)))
      (f32.convert_i32_s (local.get $n)) (f64.convert_i32_s (i32.mul (local.get $n) (local.get $n)))
      (i32x4.splat (local.get $n))))

  ;; A C++-like clean-up: catch everything, run code that can be suspended while the exnref is held, throw it on.
  (func $cleanup (param $n i32) (local $held exnref) (local $count i32)
    (block $caught (result exnref)
      (try_table (catch_all_ref $caught)
        (call $thrower (local.get $n)))
      (call $note (i64.const 1))
      (return))
    (local.set $held)
    (local.set $count (i32.const 4))
    (loop $again
      (call $note (i64.xor (call $spin (i32.const 6)) (i64.extend_i32_u (ref.is_null (local.get $held)))))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $again (local.get $count)))
    (throw_ref (local.get $held)))

  ;; Passes it through frames, each with a value of its own on the operand stack beneath the call; every third frame holds it.
  (func $through (param $n i32) (param $depth i32) (result i64)
    (i64.extend_i32_u (local.get $depth))
    (if (i32.eqz (local.get $depth))
      (then (call $cleanup (local.get $n)))
      (else
        (if (i32.rem_u (local.get $depth) (i32.const 3))
          (then (call $note (call $through (local.get $n) (i32.sub (local.get $depth) (i32.const 1)))))
          (else (call $note (call $hold (local.get $n) (i32.sub (local.get $depth) (i32.const 1))))))))
    (i64.add (call $spin (i32.const 2))))

  ;; Two exnrefs alive at once: the one caught here and one thrown and caught meanwhile.
  (func $hold (param $n i32) (param $depth i32) (result i64) (local $first exnref) (local $second exnref)
    (block $one (result exnref)
      (try_table (result i64) (catch_all_ref $one)
        (call $through (local.get $n) (local.get $depth)))
      (return))
    (local.set $first)
    (block $two (result i32 exnref)
      (try_table (catch_ref $int $two)
        (throw $int (local.get $depth)))
      (unreachable))
    (local.set $second)
    (drop)
    (call $note (call $spin (i32.const 5)))
    (block $again (result i32)
      (try_table (catch $int $again)
        (throw_ref (local.get $second)))
      (unreachable))
    (call $note (i64.extend_i32_s))
    (throw_ref (local.get $first)))

  ;; Catches by tag: the payload arrives on the operand stack of the label.
  (func $catcher (param $n i32) (result i64)
    (local $i i32) (local $l i64) (local $f f32) (local $d f64) (local $v v128) (local $r exnref)
    (block $e
      (block $w (result i64 f64)
        (block $i1 (result i32)
          (block $a (result i32 i64 f32 f64 v128 exnref)
            (try_table (catch $empty $e) (catch $wide $w) (catch $int $i1) (catch_ref $all $a)
              (return (call $through (local.get $n) (i32.const 7))))
            (unreachable))
          (local.set $r) (local.set $v) (local.set $d) (local.set $f) (local.set $l)
          (local.set $i)
          ;; The payload and its exnref stay alive across calls; then it is taken apart once more.
          (call $note (call $spin (i32.const 3)))
          (block $b (result i32 i64 f32 f64 v128)
            (try_table (catch $all $b) (throw_ref (local.get $r)))
            (unreachable))
          (i32x4.extract_lane 2)
          (i64.extend_i32_s)
          (local.set $l (i64.add (local.get $l)))
          (local.set $d (f64.add (local.get $d)))
          (local.set $f (f32.add (local.get $f)))
          (local.set $l (i64.add (local.get $l)))
          (i64.extend_i32_s (i32.add (local.get $i)))
          (return (i64.add (i64.add (local.get $l) (i64.trunc_f64_s (local.get $d))) (i64.trunc_f32_s (local.get $f)))
            (i64.add)))
        (return (i64.mul (i64.extend_i32_s) (call $spin (i32.const 4)))))
      (i64.trunc_f64_s)
      (return (i64.sub)))
    (i64.const 404))

  ;; A funcref as payload, called after it was caught.
  (func $function_payload (param $n i32) (result i64) (local $f funcref)
    (block $caught (result funcref i32)
      (try_table (catch $ref $caught)
        (throw $ref (table.get (i32.and (local.get $n) (i32.const 1))) (i32.and (local.get $n) (i32.const 7))))
      (unreachable))
    (i32.add (i32.const 1))
    (drop)
    (local.set $f)
    (table.set (i32.const 1) (table.get (i32.sub (i32.const 1) (i32.and (local.get $n) (i32.const 1)))))
    (table.set (i32.const 0) (local.get $f))
    (call_indirect (type $step) (i32.add (local.get $n) (i32.const 1)) (i32.const 0)))

  ;; Exits a loop by exception every time, from inside the loop's own try_table.
  (func $loop_throw (param $n i32) (result i64) (local $h i64)
    (block $out (result i32)
      (loop $again
        (block $next
          (try_table (catch $int $out) (catch_all $next)
            (local.set $h (i64.add (local.get $h) (call $spin (local.get $n))))
            (if (i32.eqz (local.get $n)) (then (throw $int (i32.const 99))))
            (throw $empty)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again))
      (unreachable))
    (i64.extend_i32_u)
    (i64.add (local.get $h)))

  (func (export "run") (result i64) (local $n i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $catcher (local.get $n))))
      (local.set $h (i64.xor (local.get $h) (call $function_payload (local.get $n))))
      (local.set $h (i64.add (local.get $h) (call $loop_throw (i32.and (local.get $n) (i32.const 7)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 30))))
    (i64.xor (local.get $h) (global.get $log))))
