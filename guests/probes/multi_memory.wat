;; EXPECT: -8955929476249110790
;; Four memories (one 64-bit) and three tables: loads, stores, copies and fills between them, growth of one while the others
;; stay, calls through each table, data segments into each.
(module
  (memory $a 1 8)
  (memory $b 2 2)
  (memory $c 0 16)
  (memory $d i64 1 4)
  (table $t 3 funcref)
  (table $u 5 10 funcref)
  (table $v 1 funcref)
  (data (memory $a) (i32.const 8) "first memory")
  (data (memory $b) (i32.const 65530) "across the page boundary of the second memory")
  (data $passive "for the third and the fourth")
  (elem (table $t) (i32.const 0) func $plus $times $shift)
  (elem (table $u) (i32.const 1) func $times $plus)
  (type $binary (func (param i64 i64) (result i64)))

  (func $plus (type $binary) (i64.add (local.get 0) (call $count (local.get 1))))
  (func $times (type $binary) (i64.mul (local.get 0) (i64.or (call $count (local.get 1)) (i64.const 1))))
  (func $shift (type $binary) (i64.rotl (local.get 0) (call $count (local.get 1))))
  ;; Counts the bits, one at a time.
  (func $count (param $x i64) (result i64) (local $n i64)
    (block $done
      (loop $again
        (br_if $done (i64.eqz (local.get $x)))
        (local.set $x (i64.and (local.get $x) (i64.sub (local.get $x) (i64.const 1))))
        (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br $again)))
    (local.get $n))

  (func $stir (param $n i32) (result i64) (local $h i64)
    (loop $again
      (i32.store8 $a (i32.and (local.get $n) (i32.const 1023)) (i32.add (local.get $n) (i32.load8_u $b (i32.add (local.get $n) (i32.const 65500)))))
      (i64.store $b (i32.add (i32.const 65500) (i32.and (local.get $n) (i32.const 127)))
        (i64.add (local.get $h) (i64.load $a (i32.and (local.get $n) (i32.const 511)))))
      (i64.store16 $d (i64.extend_i32_u (local.get $n)) (i64.load $b (i32.const 65536)))
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.load $d (i64.extend_i32_u (i32.and (local.get $n) (i32.const 255))))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $h))

  (func (export "run") (result i64) (local $h i64) (local $i i32) (local $top i32)
    (loop $again
      (local.set $top (i32.shl (memory.grow $c (i32.const 1)) (i32.const 16)))
      (memory.init $c $passive (i32.add (local.get $top) (i32.const 100)) (i32.const 0) (i32.const 28))
      (memory.init $d $passive (i64.const 300) (i32.const 8) (i32.const 20))
      (local.set $h (i64.xor (local.get $h) (call $stir (i32.add (local.get $i) (i32.const 40)))))
      (memory.copy $c $b (i32.add (local.get $top) (i32.const 200)) (i32.const 65500) (i32.const 128))
      (memory.copy $d $c (i64.const 60000) (i32.add (local.get $top) (i32.const 96)) (i32.const 256))
      (memory.copy $a $d (i32.const 512) (i64.const 60000) (i32.const 200))
      (memory.fill $b (i32.add (i32.const 65530) (local.get $i)) (local.get $i) (i32.const 4))
      (local.set $h (i64.add (local.get $h) (i64.load $c (i32.add (local.get $top) (i32.const 210)))))
      (table.copy $u $t (i32.const 3) (i32.const 1) (i32.const 2))
      (table.set $v (i32.const 0) (table.get $u (i32.add (i32.const 1) (i32.rem_u (local.get $i) (i32.const 4)))))
      (local.set $h (call_indirect $t (type $binary) (local.get $h) (i64.load $a (i32.const 520)) (i32.rem_u (local.get $i) (i32.const 3))))
      (local.set $h (call_indirect $u (type $binary) (local.get $h) (i64.load $b (i32.const 65530)) (i32.add (i32.const 1) (i32.and (local.get $i) (i32.const 3)))))
      (local.set $h (call_indirect $v (type $binary) (local.get $h) (i64.const 0x5555) (i32.const 0)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 16))))
    (i64.add (local.get $h)
      (i64.extend_i32_u (i32.add (i32.mul (memory.size $c) (i32.const 100)) (i32.add (memory.size $a) (memory.size $b)))))))
