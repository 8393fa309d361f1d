;; EXPECT: -1854151504885401470
;; Atomic instructions on a memory that is not shared: every width of load, store, add, sub, and, or, xor, exchange and
;; compare-exchange, fences, notify (nobody waits: 0). A spin lock and a ring buffer between two "threads" taken in turn.
(module
  (memory 1)

  (func $widths (param $n i32) (result i64) (local $h i64)
    (loop $again
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (i32.atomic.rmw.add (i32.const 0) (local.get $n)))))
      (local.set $h (i64.xor (local.get $h) (i64.atomic.rmw.sub (i32.const 8) (local.get $h))))
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (i32.atomic.rmw8.add_u (i32.const 16) (local.get $n)))))
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (i32.atomic.rmw16.xor_u (i32.const 18) (i32.wrap_i64 (local.get $h))))))
      (local.set $h (i64.add (local.get $h) (i64.atomic.rmw32.or_u (i32.const 20) (local.get $h))))
      (local.set $h (i64.add (local.get $h) (i64.atomic.rmw8.and_u (i32.const 16) (i64.const 0x7d))))
      (local.set $h (i64.rotl (local.get $h) (i64.atomic.rmw16.xchg_u (i32.const 24) (i64.extend_i32_u (local.get $n)))))
      (local.set $h (i64.add (local.get $h) (i64.atomic.rmw.xchg (i32.const 32) (local.get $h))))
      (atomic.fence)
      (i64.atomic.store32 (i32.const 40) (local.get $h))
      (i32.atomic.store8 (i32.const 44) (local.get $n))
      (i32.atomic.store16 (i32.const 46) (i32.atomic.load8_u (i32.const 41)))
      (local.set $h (i64.add (local.get $h) (i64.atomic.load (i32.const 40))))
      (local.set $h (i64.add (local.get $h) (i64.atomic.load16_u (i32.const 46))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $h))

  ;; lock at 64: 0 free, else the owner. Returns the number of failed tries.
  (func $lock (param $owner i32) (result i32) (local $tries i32)
    (loop $again
      (if (i32.atomic.rmw.cmpxchg (i32.const 64) (i32.const 0) (local.get $owner))
        (then
          (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
          ;; The other owner lets go after a while: it is us who play it.
          (if (i32.eq (local.get $tries) (i32.const 5)) (then (i32.atomic.store (i32.const 64) (i32.const 0))))
          (br $again))))
    (local.get $tries))

  ;; Ring of 16 i64 at 128, head at 72, tail at 80 (i64 counters).
  (func $push (param $value i64) (result i32)
    (if (i64.ge_u (i64.sub (i64.atomic.load (i32.const 80)) (i64.atomic.load (i32.const 72))) (i64.const 16))
      (then (return (i32.const 0))))
    (i64.atomic.store
      (i32.add (i32.const 128) (i32.shl (i32.and (i32.wrap_i64 (i64.atomic.rmw.add (i32.const 80) (i64.const 1))) (i32.const 15)) (i32.const 3)))
      (local.get $value))
    (i32.const 1))

  (func $pop (result i64) (local $head i64)
    (loop $again
      (local.set $head (i64.atomic.load (i32.const 72)))
      (if (i64.eq (local.get $head) (i64.atomic.load (i32.const 80))) (then (return (i64.const -1))))
      (br_if $again (i64.ne (local.get $head)
        (i64.atomic.rmw.cmpxchg (i32.const 72) (local.get $head) (i64.add (local.get $head) (i64.const 1))))))
    (i64.atomic.load (i32.add (i32.const 128) (i32.shl (i32.and (i32.wrap_i64 (local.get $head)) (i32.const 15)) (i32.const 3)))))

  (func (export "run") (result i64) (local $i i32) (local $h i64) (local $got i64)
    (local.set $i (i32.const 60))
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 1000003)) (call $widths (local.get $i))))
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (call $lock (local.get $i)))))
      (loop $fill (br_if $fill (call $push (i64.add (local.get $h) (i64.atomic.load (i32.const 80))))))
      (loop $drain
        (local.set $got (call $pop))
        (local.set $h (i64.xor (i64.mul (local.get $h) (i64.const 31)) (local.get $got)))
        (br_if $drain (i64.ne (local.get $got) (i64.const -1))))
      (local.set $h (i64.add (local.get $h) (i64.extend_i32_u (memory.atomic.notify (i32.const 64) (i32.const 1)))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))
    (local.get $h)))
