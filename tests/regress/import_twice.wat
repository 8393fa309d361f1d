;; The same function of the host under two indexes.
(module
  (import "host" "f" (func $a (param i32) (result i32)))
  (import "host" "f" (func $b (param i32) (result i32)))
  (func (export "run") (param i32) (result i32)
    (i32.add (call $a (local.get 0)) (call $b (i32.const 7)))))
