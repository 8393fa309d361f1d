;; A short loop that makes a tail call of its own function: each pass checks before it, so it is not charged for behind several passes as well. It
;; once was, from cost model 4 on, and each pause in it cost a charge.
(module
  (global $left (mut i32) (i32.const 30))
  (func $f (param $again i32)
    (local $i i32)
    (if (i32.lt_s (global.get $left) (i32.const 1)) (then (return)))
    (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (block $out
      (local.set $i (i32.const 16))
      (loop $pass
        (br_if $out (i32.lt_s (global.get $left) (i32.const 1)))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (if (i32.mul (i32.const -1) (local.get $again)) (then (return_call $f (local.get $again))))
        (local.set $i (i32.sub (local.get $i) (i32.const 2)))
        (br_if $pass (i32.ne (local.get $i) (i32.const 12))))))
  ;; With a number of passes that can be computed.
  (func $g (param $again i32)
    (local $i i32)
    (if (i32.lt_s (global.get $left) (i32.const 1)) (then (return)))
    (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (block $out
      (local.set $i (i32.and (local.get $again) (i32.const 31)))
      (loop $pass
        (br_if $out (i32.lt_s (global.get $left) (i32.const 1)))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (if (i32.eq (local.get $i) (i32.const 3)) (then (return_call $g (i32.add (local.get $again) (i32.const 7)))))
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (br_if $pass (i32.gt_s (local.get $i) (i32.const 0))))))
  (func (export "f") (param i32) (global.set $left (i32.const 30)) (call $f (local.get 0)))
  (func (export "f_without") (global.set $left (i32.const 30)) (call $f (i32.const 0)))
  (func (export "g") (param i32) (global.set $left (i32.const 200)) (call $g (local.get 0))))
