;; Calls through references of a type whose functions all cannot suspend (cost model 5), among others.
(module
  (memory 1)
  (tag $odd (param i32))
  (type $binary (func (param i32 i32) (result i32)))
  (type $unary (func (param i32) (result i32)))
  (type $none (func (param i64) (result i64)))
  (table $t 8 funcref)
  (elem (table $t) (i32.const 0) func $add $mix $loops $twice $throws)

  ;; Of type $binary, and none of them can suspend; one calls, one throws, one has a loop of a known length.
  (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $mix (type $binary) (i32.xor (call $add (local.get 1) (i32.const 77)) (i32.mul (local.get 0) (i32.const 31))))
  (func $throws (type $binary)
    (if (i32.and (local.get 0) (i32.const 1)) (then (throw $odd (local.get 1))))
    (i32.sub (local.get 0) (local.get 1)))

  ;; Of type $unary: one can suspend, so all calls of that type are points.
  (func $loops (type $unary) (local $k i32)
    (loop $l
      (local.set $k (i32.add (local.get $k) (i32.const 3)))
      (br_if $l (local.tee 0 (i32.shr_u (local.get 0) (i32.const 1)))))
    (local.get $k))
  (func $twice (type $unary) (i32.shl (local.get 0) (i32.const 1)))

  ;; It calls through a reference, and cannot suspend for all that.
  (func $leaf (param $n i32) (result i32)
    (call_indirect $t (type $binary) (local.get $n) (i32.const 5) (i32.and (local.get $n) (i32.const 1))))

  (func $fold (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s
        (i32.add (local.get $n)
          (call_indirect $t (type $binary) (local.get $s) (call $leaf (local.get $n)) (i32.and (local.get $n) (i32.const 1)))))
      (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 5)))
        (then (local.set $s (i32.add (local.get $s)
          (call_indirect $t (type $unary) (local.get $s) (i32.add (i32.const 2) (i32.and (local.get $n) (i32.const 1))))))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))

  ;; What it throws is caught around the call, with what was written before and behind it.
  (func $catch (param $n i32) (result i32) (local $s i32) (local $last i32)
    (loop $l
      (local.set $last (local.get $n))
      (local.set $s (i32.add (local.get $s)
        (block $caught (result i32)
          (try_table (result i32) (catch $odd $caught)
            (local.set $last (i32.const 1000))
            (local.set $last (call_indirect $t (type $binary) (local.get $n) (i32.const 3) (i32.const 4)))
            (i32.add (local.get $last) (call $loops (local.get $n)))))))
      (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 7)) (local.get $last)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))

  ;; No function has the type, or the slot is empty: it traps.
  (func $traps (param $n i32) (result i32)
    (if (call $loops (local.get $n)) (then (drop (call_indirect $t (type $none) (i64.const 1) (i32.const 0)))))
    (call $fold (local.get $n)))

  (func (export "entry fold") (result i32) (call $fold (i32.const 40)))
  (func (export "entry catch") (result i32) (call $catch (i32.const 9)))
  (func (export "entry traps") (result i32) (call $traps (i32.const 9)))
  (func (export "entry empty") (result i32)
    (i32.add (call $fold (i32.const 3)) (call_indirect $t (type $binary) (i32.const 1) (i32.const 1) (i32.const 7)))))
