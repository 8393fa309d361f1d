;; Functions as Go's compiler makes them: a loop around a table, whose jumps forwards go past its header; they check there alone.
(module
  (memory (export "memory") 1)
  (global $sp (export "sp") (mut i32) (i32.const 60000))

  ;; fib, with its argument and result in memory, and the results of calls beneath them.
  (func $fib (param $at i32) (result i32) (local $frame i32)
    global.get $sp
    local.set $frame
    block $unwinding
      loop $dispatch
        block $second
          block $first
            block $small
              block $entry
                (br_table $entry $small $first $second (local.get $at))
              end
              (local.set $frame (i32.sub (local.get $frame) (i32.const 24)))
              (global.set $sp (local.get $frame))
              (if (i64.ge_s (i64.load offset=32 (local.get $frame)) (i64.const 2))
                (then
                  (i64.store offset=0 (local.get $frame) (i64.sub (i64.load offset=32 (local.get $frame)) (i64.const 1)))
                  (local.set $at (i32.const 2))
                  br $dispatch))
              ;; falls through
            end
            (i64.store offset=40 (local.get $frame) (i64.load offset=32 (local.get $frame)))
            (global.set $sp (i32.add (local.get $frame) (i32.const 24)))
            (return (i32.const 0))
          end
          (i64.store offset=8 (local.get $frame) (call $call (i64.load offset=0 (local.get $frame))))
          (global.set $sp (local.get $frame))
          (local.set $at (i32.const 3))
          br $dispatch
        end
        (i64.store offset=40 (local.get $frame)
          (i64.add (i64.load offset=8 (local.get $frame))
            (call $call (i64.sub (i64.load offset=0 (local.get $frame)) (i64.const 1)))))
        (global.set $sp (i32.add (local.get $frame) (i32.const 24)))
        (return (i32.const 0))
      end
      unreachable
    end
    i32.const 1)

  ;; Calls it with an argument, and gives its result.
  (func $call (param $n i64) (result i64) (local $top i32)
    (local.set $top (i32.sub (global.get $sp) (i32.const 24)))
    (global.set $sp (local.get $top))
    (i64.store offset=8 (local.get $top) (local.get $n))
    (drop (call $fib (i32.const 0)))
    (i64.load offset=16 (local.get $top))
    (global.set $sp (i32.add (local.get $top) (i32.const 24))))

  (func (export "fib") (result i64) (call $call (i64.const 15)))

  ;; A loop forwards and backwards, with a call in each pass; the index is beyond the table, and negative, now and then.
  (func (export "walk") (param $n i32) (result i64) (local $at i32) (local $k i32) (local $sum i64)
    block $out
      loop $dispatch
        block $c
          block $b
            block $a
              (br_table $a $b $c (local.get $at))
            end
            (local.set $k (i32.add (local.get $k) (i32.const 1)))
            (if (i32.and (local.get $k) (i32.const 3))
              (then (local.set $at (i32.const 99)) br $dispatch))
            (if (i32.and (local.get $k) (i32.const 4))
              (then (local.set $at (i32.const -1)) br $dispatch))
            (local.set $at (i32.const 1))
            br $dispatch
          end
          (local.set $sum (i64.add (local.get $sum) (call $call (i64.extend_i32_u (i32.and (local.get $k) (i32.const 7))))))
        end
        (local.set $sum (i64.xor (i64.rotl (local.get $sum) (i64.const 3)) (i64.extend_i32_u (local.get $k))))
        (local.set $at (i32.const 0))
        (br_if $dispatch (i32.lt_u (local.get $k) (i32.const 200)))
      end
    end
    (i64.add (local.get $sum) (i64.extend_i32_u (local.get $n)))))
