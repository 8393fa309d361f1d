;; EXPECT: 5168956088204447589
;; Plain funcrefs and null externrefs in locals, globals, tables, parameters, results, selects and blocks, alive across
;; calls that loop; every reference is called or compared after a while, so a wrong one shows.
(module
  (type $f (func (param i32) (result i32)))
  (table $slots 12 funcref)
  (table $outer 4 externref)
  (global $held (mut funcref) (ref.func $add))
  (global $none (mut externref) (ref.null extern))
  (elem (table $slots) (i32.const 2) func $add $mul $rot $deep)
  (elem declare func $add $mul $rot $deep)
  (export "add" (func $add))

  (func $add (type $f) (i32.add (call $spin (local.get 0) (i32.const 2)) (i32.const 77)))
  (func $mul (type $f) (i32.mul (call $spin (local.get 0) (i32.const 3)) (i32.const 2654435761)))
  (func $rot (type $f) (i32.rotr (call $spin (local.get 0) (i32.const 1)) (i32.const 11)))
  (func $deep (type $f)
    (if (result i32) (i32.le_u (local.get 0) (i32.const 1))
      (then (i32.const 3))
      (else (i32.add (call $deep (i32.shr_u (local.get 0) (i32.const 1))) (call $spin (local.get 0) (i32.const 2))))))
  (func $spin (param $x i32) (param $n i32) (result i32)
    (loop $again
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (local.set $x (i32.add (local.get $x) (i32.const 0x9e3779b9)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  ;; Calls a reference through a scratch slot; null gives -1.
  (func $apply (param $what funcref) (param $x i32) (result i32)
    (if (ref.is_null (local.get $what)) (then (return (i32.sub (call $spin (local.get $x) (i32.const 2)) (i32.const 1)))))
    (table.set $slots (i32.const 11) (local.get $what))
    (local.set $x (call_indirect $slots (type $f) (local.get $x) (i32.const 11)))
    (table.set $slots (i32.const 11) (ref.null func))
    (local.get $x))

  ;; Which function it is, found by calling: references have no identity but that.
  (func $choose (param $i i32) (result funcref funcref)
    (drop (call $spin (local.get $i) (i32.const 2)))
    (table.get $slots (i32.rem_u (local.get $i) (i32.const 8)))
    (select (result funcref) (ref.func $deep) (global.get $held) (i32.and (local.get $i) (i32.const 4))))

  ;; Three references on the operand stack while calls loop; a block gives one on.
  (func $juggle (param $i i32) (result i32) (local $a funcref) (local $b funcref) (local $x externref)
    (global.get $held)
    (call $choose (local.get $i))
    (local.set $b)
    (local.set $a)
    (local.set $x (global.get $none))
    (drop (call $spin (local.get $i) (i32.const 4)))
    (block $pick (param funcref) (result funcref)
      (drop (call $spin (local.get $i) (i32.const 2)))
      (br_if $pick (i32.and (local.get $i) (i32.const 1)))
      (drop)
      (local.get $b))
    (global.set $held)
    (table.set $outer (i32.and (local.get $i) (i32.const 3)) (local.get $x))
    (i32.add
      (call $apply (local.get $a) (i32.add (local.get $i) (i32.const 5)))
      (i32.mul (call $apply (local.get $b) (local.get $i))
        (i32.add (ref.is_null (table.get $outer (i32.and (local.get $i) (i32.const 3)))) (ref.is_null (local.get $x))))))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.extend_i32_u (call $juggle (local.get $i)))))
      (if (i32.eqz (i32.rem_u (local.get $i) (i32.const 9)))
        (then
          (table.set $slots (i32.rem_u (local.get $i) (i32.const 7)) (global.get $held))
          (table.fill $slots (i32.const 6) (table.get $slots (i32.rem_u (local.get $i) (i32.const 5))) (i32.const 2))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))
    (i64.xor (local.get $h) (i64.extend_i32_u (call $apply (global.get $held) (i32.const 1234567))))))
