;; Nothing is left in plain code between the loop and the trap, so the engine may name either as its place.
(module
  (func (export "trap") (param i32) (result i32)
    (drop (f64.convert_i32_u (local.get 0)))
    (loop (result i32)
      (i32.const 7)
      (i32.clz)
      (block
        (nop)
        (unreachable))
      (br 1))))
