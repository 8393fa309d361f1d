;; EXPECT: -7867893121616246424
;; Bulk memory and passive segments: memory.init, copy (both directions of overlap), fill; table.init, copy, fill, grow;
;; data.drop and elem.drop in the middle of the run, so that which segments are gone is part of the state.
(module
  (type $f (func (param i32) (result i32)))
  (memory 1 4)
  (table $t 8 32 funcref)
  (data $one "passive segment one: abcdefghijklmnopqrstuvwxyz")
  (data $two "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f")
  (data $three "kept to the end")
  (data (i32.const 60) "active")
  (elem $fs func $a $b $c)
  (elem $gs funcref (ref.func $c) (ref.null func) (ref.func $a))
  (elem declare func $b)

  (func $a (type $f) (call $spin (local.get 0) (i32.const 3)))
  (func $b (type $f) (i32.mul (call $spin (local.get 0) (i32.const 2)) (i32.const 5)))
  (func $c (type $f) (i32.rotl (call $spin (local.get 0) (i32.const 4)) (i32.const 3)))
  (func $spin (param $x i32) (param $n i32) (result i32)
    (loop $again
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x))

  (func $sum (param $from i32) (param $count i32) (result i64) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.load8_u (local.get $from))))
      (local.set $from (i32.add (local.get $from) (i32.const 1)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $again (local.get $count)))
    (local.get $h))

  ;; Calls what is in slots 0 to n - 1, null slots count 1.
  (func $call_all (param $n i32) (result i64) (local $h i64)
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 37))
        (if (result i64) (ref.is_null (table.get $t (local.get $n)))
          (then (i64.const 1))
          (else (i64.extend_i32_u (call_indirect $t (type $f) (local.get $n) (local.get $n)))))))
      (br_if $again (local.get $n)))
    (local.get $h))

  (func $round (param $i i32) (result i64) (local $h i64)
    (memory.copy (i32.const 110) (i32.const 100) (i32.const 60))
    (memory.copy (i32.const 95) (i32.const 100) (i32.const 60))
    (memory.fill (i32.add (i32.const 140) (local.get $i)) (i32.mul (local.get $i) (i32.const 7)) (i32.const 9))
    (table.copy $t $t (i32.const 3) (i32.const 1) (i32.const 4))
    (table.fill $t (i32.rem_u (local.get $i) (i32.const 7)) (ref.func $b) (i32.const 1))
    (local.set $h (call $sum (i32.const 60) (i32.const 130)))
    (i64.xor (local.get $h) (call $call_all (table.size $t))))

  (func (export "run") (result i64) (local $i i32) (local $h i64)
    (loop $again
      (block $switch
        (block $p6 (block $p5 (block $p4 (block $p3 (block $p2 (block $p1 (block $p0
          (br_table $p0 $p1 $p2 $p3 $p4 $p5 $p6 $switch (i32.shr_u (local.get $i) (i32.const 2))))
          (memory.init $one (i32.add (i32.const 100) (local.get $i)) (i32.const 9) (i32.const 20))
          (table.init $t $fs (i32.const 0) (i32.const 0) (i32.const 3))
          (br $switch))
          (memory.init $two (i32.const 120) (i32.const 2) (i32.const 12))
          (table.init $t $gs (i32.add (i32.const 4) (i32.and (local.get $i) (i32.const 1))) (i32.const 0) (i32.const 3))
          (br $switch))
          (data.drop $one)
          (br $switch))
          (elem.drop $fs)
          (memory.init $one (i32.const 0) (i32.const 0) (i32.const 0)) ;; nothing of a dropped segment may still be taken
          (table.init $t $fs (i32.const 0) (i32.const 0) (i32.const 0))
          (br $switch))
          (memory.init $three (i32.const 160) (i32.const 0) (i32.const 15))
          (data.drop $two)
          (br $switch))
          (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (table.grow $t (ref.func $b) (i32.const 2)))))
          (br $switch))
          (table.init $t $gs (i32.const 0) (i32.const 0) (i32.const 3))
          (elem.drop $gs)
          (local.set $i (i32.add (local.get $i) (i32.const 3))))
      (local.set $h (i64.add (i64.rotl (local.get $h) (i64.const 7)) (call $round (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 50))))
    (local.get $h)))
