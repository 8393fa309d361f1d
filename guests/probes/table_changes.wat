;; EXPECT: -7232809678123055512
;; Tables that change while calls go through them: every callee, while its caller waits in a call_indirect on a slot, sets,
;; copies, fills or grows that same table, so at a suspension the caller's slot already holds another function, or none.
(module
  (type $op (func (param i32 i64) (result i64)))
  (table $t 8 64 funcref)
  (table $spare 4 funcref)
  (elem (table $t) (i32.const 0) func $rotate $swap $erase $grow $copy $fill $nested $leaf)
  (elem (table $spare) (i32.const 0) func $leaf $rotate $nested $swap)
  (elem $all func $rotate $swap $erase $grow $copy $fill $nested $leaf)
  (global $budget (mut i32) (i32.const 0))

  (func $spin (param $h i64) (param $n i32) (result i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $h))

  ;; A slot of $t that depends on h.
  (func $slot (param $h i64) (result i32)
    (i32.wrap_i64 (i64.rem_u (i64.shr_u (local.get $h) (i64.const 20)) (i64.extend_i32_u (table.size $t)))))

  ;; Calls slot `at` of the table while there is budget; an empty slot gives h back, spun.
  (func $go (param $at i32) (param $h i64) (result i64)
    (if (i32.eqz (global.get $budget)) (then (return (call $spin (local.get $h) (i32.const 2)))))
    (global.set $budget (i32.sub (global.get $budget) (i32.const 1)))
    (if (ref.is_null (table.get $t (local.get $at))) (then (return (call $spin (local.get $h) (i32.const 3)))))
    (call_indirect $t (type $op) (local.get $at) (local.get $h) (local.get $at)))

  ;; Each callee knows the slot that it was called through.
  (func $leaf (type $op) (call $spin (local.get 1) (i32.add (i32.and (local.get 0) (i32.const 3)) (i32.const 1))))
  (func $rotate (type $op) (param $me i32) (param $h i64) (result i64) (local $first funcref)
    (local.set $first (table.get $t (i32.const 0)))
    (table.copy $t $t (i32.const 0) (i32.const 1) (i32.sub (table.size $t) (i32.const 1)))
    (table.set $t (i32.sub (table.size $t) (i32.const 1)) (local.get $first))
    (i64.add (call $go (call $slot (local.get $h)) (call $spin (local.get $h) (i32.const 2))) (i64.const 1)))
  (func $swap (type $op) (param $me i32) (param $h i64) (result i64) (local $other i32) (local $held funcref)
    (local.set $other (call $slot (call $spin (local.get $h) (i32.const 1))))
    (local.set $held (table.get $t (local.get $me)))
    (table.set $t (local.get $me) (table.get $t (local.get $other)))
    (local.set $h (call $go (local.get $me) (local.get $h)))
    (table.set $t (local.get $other) (local.get $held))
    (i64.xor (local.get $h) (call $go (local.get $other) (local.get $h))))
  ;; Removes itself for as long as it runs.
  (func $erase (type $op) (param $me i32) (param $h i64) (result i64)
    (table.set $t (local.get $me) (ref.null func))
    (local.set $h (i64.add (call $go (call $slot (local.get $h)) (call $spin (local.get $h) (i32.const 2)))
                           (call $go (local.get $me) (local.get $h))))
    (table.set $t (local.get $me) (table.get $spare (i32.and (local.get $me) (i32.const 3))))
    (call $spin (local.get $h) (i32.const 2)))
  (func $grow (type $op) (param $me i32) (param $h i64) (result i64)
    (i64.extend_i32_s (table.grow $t (table.get $spare (i32.wrap_i64 (i64.and (local.get $h) (i64.const 3)))) (i32.const 3)))
    (call $go (i32.sub (table.size $t) (i32.const 1)) (call $spin (local.get $h) (i32.const 2)))
    (i64.add))
  (func $copy (type $op) (param $me i32) (param $h i64) (result i64)
    (table.copy $spare $t (i32.const 0) (i32.rem_u (local.get $me) (i32.sub (table.size $t) (i32.const 3))) (i32.const 4))
    (local.set $h (call $go (call $slot (local.get $h)) (local.get $h)))
    (table.copy $t $spare (i32.and (local.get $me) (i32.const 3)) (i32.const 1) (i32.const 3))
    (call $go (i32.and (local.get $me) (i32.const 3)) (call $spin (local.get $h) (i32.const 2))))
  (func $fill (type $op) (param $me i32) (param $h i64) (result i64)
    (table.fill $t (i32.and (local.get $me) (i32.const 3)) (table.get $spare (i32.const 2)) (i32.const 2))
    (local.set $h (call $go (call $slot (local.get $h)) (call $spin (local.get $h) (i32.const 1))))
    (table.init $t $all (i32.const 0) (i32.const 0) (i32.const 8))
    (call $spin (local.get $h) (i32.const 4)))
  ;; Three calls through the same slot, with the earlier results beneath on the operand stack.
  (func $nested (type $op) (param $me i32) (param $h i64) (result i64)
    (i64.xor
      (call $go (call $slot (local.get $h)) (i64.add (local.get $h) (i64.const 1)))
      (i64.add
        (call $go (local.get $me) (call $spin (local.get $h) (i32.const 1)))
        (i64.mul (call $go (call $slot (call $spin (local.get $h) (i32.const 2))) (local.get $h)) (i64.const 31)))))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (loop $again
      (global.set $budget (i32.const 30))
      (table.init $t $all (i32.const 0) (i32.const 0) (i32.const 8))
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31))
        (call $go (i32.and (local.get $i) (i32.const 7)) (call $spin (i64.extend_i32_u (local.get $i)) (i32.const 3)))))
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (i32.mul (table.size $t) (i32.const 1000)))))
      (local.set $h (i64.sub (local.get $h) (i64.extend_i32_u (global.get $budget))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 64))))
    (local.get $h)))
