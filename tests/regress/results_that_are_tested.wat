;; Calls whose result is the condition of the next branch: they are checked behind it, since a callee that has saved its frame gives
;; zero. By name and through a table, with the result kept or not, in a local that was of use before, with operands beneath, with branches
;; that take a value, by a way that only pushes operands, from the body of an inlined call, and of an import.
(module
  (type $step (func (param i32) (result i32)))
  (import "host" "f" (func $host (param i32) (result i32)))
  (table $steps 4 funcref)
  (elem (i32.const 0) $down $halve $stay $down)
  (global $seen (mut i32) (i32.const 0))
  (func $spin (param $n i32)
    (local.set $n (i32.add (i32.and (local.get $n) (i32.const 3)) (i32.const 1)))
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0)))))
  (func $note (param $n i32)
    (global.set $seen (i32.add (i32.mul (global.get $seen) (i32.const 7)) (local.get $n))))
  (func $down (type $step) (call $spin (local.get 0)) (call $note (local.get 0)) (i32.sub (local.get 0) (i32.const 1)))
  (func $halve (type $step) (call $spin (local.get 0)) (call $note (i32.const 5)) (i32.shr_u (local.get 0) (i32.const 1)))
  ;; Zero for each third number, though it goes on.
  (func $stay (type $step) (call $spin (local.get 0)) (i32.rem_u (local.get 0) (i32.const 3)))

  (func (export "named") (result i32) (local $f i32)
    (local.set $f (i32.const 23))
    (loop $again (br_if $again (local.tee $f (call $down (local.get $f)))))
    (global.get $seen))
  (func (export "through_a_table") (result i32) (local $f i32) (local $passes i32)
    (local.set $f (i32.const 90))
    (loop $again
      (local.set $passes (i32.add (local.get $passes) (i32.const 1)))
      (br_if $again (local.tee $f
        (call_indirect (type $step) (local.get $f) (i32.and (local.get $passes) (i32.const 1))))))
    (i32.add (global.get $seen) (local.get $passes)))
  ;; What was in the local before is read by the call alone.
  (func (export "kept_elsewhere") (result i32) (local $f i32) (local $kept i32) (local $n i32)
    (local.set $n (i32.const 12))
    (loop $again
      (block $zero
        (block $other
          (br_if $other (local.tee $kept (call $stay (i32.add (local.get $n) (local.get $kept)))))
          (call $note (i32.add (local.get $n) (local.get $kept)))
          (br $zero))
        (local.set $f (i32.add (local.get $f) (local.get $kept))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.add (i32.mul (local.get $f) (i32.const 1000)) (global.get $seen)))
  (func (export "not_kept") (result i32) (local $n i32)
    (local.set $n (i32.const 9))
    (loop $again
      (block $skip
        (br_if $skip (call $stay (local.get $n)))
        (call $note (local.get $n)))
      (block $skip
        (br_if $skip (call_indirect (type $step) (local.get $n) (i32.const 2)))
        (call $note (i32.const 100)))
      (br_if $again (local.tee $n (call $down (local.get $n)))))
    (global.get $seen))
  ;; Operands beneath, and a branch that takes one along.
  (func (export "beneath") (result i32) (local $n i32) (local $sum i64)
    (local.set $n (i32.const 14))
    (block $done (result i32)
      (loop $again (result i32)
        (i64.extend_i32_u (local.get $n))
        (i32.const 3)
        (block $zero
          (br_if $zero (call $stay (local.get $n)))
          (call $note (i32.const 11)))
        (i32.mul (local.get $n))
        (i64.extend_i32_u)
        (i64.add)
        (local.set $sum (i64.add (local.get $sum)))
        (br_if $done (i32.wrap_i64 (local.get $sum)) (call $stay (local.get $n)))
        (drop)
        (local.get $n)
        (br_if $again (local.tee $n (call $down (local.get $n))))
        (i32.add (i32.wrap_i64 (local.get $sum)))))
    (i32.add (global.get $seen)))
  (func $recursive (param $n i32) (result i32)
    (block $more
      (br_if $more (i32.and (local.get $n) (i32.const 7)))
      (return (i32.and (local.get $n) (i32.const 8))))
    (block $no
      (br_if $no (call $recursive (i32.sub (local.get $n) (i32.const 1))))
      (call $note (local.get $n))
      (return (call $stay (local.get $n))))
    (i32.add (call $stay (local.get $n)) (i32.const 1)))
  (func (export "recursions") (result i32) (local $n i32)
    (loop $again
      (call $note (call $recursive (local.get $n)))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 5))) (i32.const 60))))
    (global.get $seen))
  ;; The condition is not the call's result, or not the only one.
  (func $both (param $n i32) (result i32 i32) (call $spin (local.get $n)) (local.get $n) (i32.and (local.get $n) (i32.const 1)))
  (func (export "others") (result i32) (local $n i32)
    (local.set $n (i32.const 20))
    (loop $again
      (block $out
        (local.get $n)
        (block $odd (param i32) (result i32)
          (i32.const 1)
          (i32.and (local.get $n) (i32.const 2))
          (call $note (call $down (local.get $n)))
          (call $spin (local.get $n))
          (br_if $out)
          (i32.add)
          (call $both (local.get $n))
          (br_if $odd)
          (i32.add))
        (call $note))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (global.get $seen))
  (func (export "imported") (result i32) (local $n i32)
    (loop $again
      (block $zero (br_if $zero (call $host (local.get $n))) (call $note (i32.const 3)))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))))
    (global.get $seen)))
